"""Nodes of one forward, backward or weight-gradient pass of a micro-batch through a chunk of layers.

May use `layers`, `plan` and `graph_writer`. Knows nothing of other passes, nor of other ranks.
"""
