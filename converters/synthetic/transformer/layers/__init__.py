"""Operators and communication of one rank's layers, and the layers of each pipeline stage.

May use `model`, `plan` and `op_cost`. Knows nothing of graphs.
"""
