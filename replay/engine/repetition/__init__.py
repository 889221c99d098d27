"""Exact extrapolation: iterations that repeat to the picosecond are copied instead of replayed.

Touch it to find more that repeats. It knows the loop's columns and nothing of what they stand for.
"""
