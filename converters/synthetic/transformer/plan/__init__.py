"""Parallelism plan: its fields and rules, the grid of ranks and process groups, the pipeline schedules.

May use `model`. Knows nothing of operators or graphs.
"""
