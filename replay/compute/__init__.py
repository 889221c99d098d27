"""Compute models: how long each compute and memory node takes, on whole columns, before the loop.

A new model is a class like `interface.ComputeModel` in a file here, and a line in `replay/plugins.py`;
another package names its own with an entry point in the group `chakrasim.compute`. A model knows graphs and
the machine, and nothing of networks, rank classes or the loop.
"""
