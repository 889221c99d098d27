"""Converters: anything in, Chakra execution graphs out, one module or folder a source.

Touch it to read another format: `interface.py` has the class to write, `registry.py` the line to add. No
converter knows a machine or a replay.
"""
