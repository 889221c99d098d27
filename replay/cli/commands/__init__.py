"""The commands of the command line, one a file: each parses, calls the library and shows what came back."""
