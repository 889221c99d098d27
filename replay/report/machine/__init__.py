"""Views of machines, of fits to measurements, and of the comparison with ASTRA-sim.

Touch it to show more of them. It knows no trace and no result.
"""
