"""Chakra files into columns: through protobuf's objects, or compiled, straight from the bytes."""
