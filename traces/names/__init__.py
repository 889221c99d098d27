"""Names in traces: communication kernels, kinds of operators, and patterns by which users pick nodes.

Touch it for a new kernel name or kind of operator. It knows a graph's vocabulary and reads no file.
"""
