"""Columns into the bytes of Chakra files, in Python or compiled.

Touch it for speed, or for a new form of the files. It knows one graph at a time, and no workload.
"""
