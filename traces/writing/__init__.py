"""Columns into the bytes of Chakra files, in Python or compiled."""
