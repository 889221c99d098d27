"""Workloads made from a description instead of a recording.

Touch it to generate another kind of workload: a room here. It knows no recording, no machine and no replay.
"""
