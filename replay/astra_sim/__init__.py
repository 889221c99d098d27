"""Machines from the input files of ASTRA-sim 1.0 and 2.x."""
