"""Views of traces: what is in them, what is wrong with them, and what was mended.

Touch it to show more of a trace. It knows no machine and no replay.
"""
