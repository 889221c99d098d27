"""Kinds of operators that compute models tell apart: the values of a node's `op_kind`."""

MATMUL, ATTENTION, ELEMENTWISE, LAUNCH = "matmul", "attention", "elementwise", "launch"
"""Matrix products and convolutions, fused attention, memory-bound kernels, and launches on the host."""
KERNELS = (MATMUL, ATTENTION, ELEMENTWISE)
"""Those that run on the device."""
