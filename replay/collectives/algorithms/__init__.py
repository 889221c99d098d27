"""Collective algorithms as steps of messages: built-in ones, MSCCL files, Chakra graphs.

Touch it to add an algorithm. It knows members by their place, 0 to n - 1, and blocks of bytes, and neither
machines nor times.
"""
