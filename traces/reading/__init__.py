"""Chakra files into columns: through protobuf's objects, or compiled, straight from the bytes.

Touch it for speed, or for a new form of the files. Both ways give equal columns; neither knows which ranks
a workload has, nor whether its graphs make sense together.
"""
