"""Graphs in the form that ASTRA-sim's feeder takes."""
