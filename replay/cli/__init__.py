"""The command line: parsing, one library call, showing.

Touch it to change what a user types or sees. The only part of `replay` that knows the converters.
"""
