"""Machines from the input files of ASTRA-sim 1.0 and 2.x.

Touch it for another key or version of those files. It makes machines and compares results with published
ones; how ASTRA-sim's rules act on a replay is for `machine/rules.py` and those who ask it.
"""
