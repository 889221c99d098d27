"""Rank classes: of ranks that do the same on equal parts of the machine one is replayed for all.

Touch it to find more symmetry or to explain what breaks it. It changes no result: a replay without it gives
the same times to the picosecond. It must not know how results are reported.
"""
