"""Results: start and end of every node, as data that can be pickled.

Touch it to keep more of a replay. It holds data only: what follows from it is worked out in `analysis/`.
"""
