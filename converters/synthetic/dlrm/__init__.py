"""Recommendation models with embedding tables: descriptions in YAML, and the graph of a step.

May use `op_cost` and `graph_writer`. Knows no other kind of model.
"""
