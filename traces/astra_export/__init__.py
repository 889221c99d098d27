"""Graphs in the form that ASTRA-sim's feeder takes.

Touch it when ASTRA-sim reads something another way. It knows graphs and edits, and no machine.
"""
