"""Workloads made from a description instead of a recording."""
