"""What-if edits: each takes a graph or a workload and returns another one; the arguments stay as they are.

Touch it to ask a new question of a trace: a file here. It knows no machine and no replay.
"""
