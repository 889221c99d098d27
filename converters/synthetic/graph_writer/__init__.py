"""Turns operators, collectives and messages into the nodes and edges of a rank's graph.

May use `op_cost`. Knows nothing of the models and plans whose graphs it writes.
"""
