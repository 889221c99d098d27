"""Workloads without a model: collectives, messages, random graphs.

Knows nothing of models, operator costs or the other generators.
"""
