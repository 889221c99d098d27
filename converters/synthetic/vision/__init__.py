"""Vision networks, data-parallel: their layers, and the graph of a training step or a forward pass.

May use `op_cost` and `graph_writer`. Knows no other kind of model.
"""
