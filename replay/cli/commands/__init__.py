"""The commands of the command line, one a file: each parses, calls the library and shows what came back.

Touch it to add a command: a file here, and a line in `main.py`. Nothing is worked out here.
"""
