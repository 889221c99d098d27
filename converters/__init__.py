"""Anything in, Chakra execution graphs out: one module or folder a source."""
