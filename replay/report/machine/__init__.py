"""Views of machines, of fits to measurements, and of the comparison with ASTRA-sim."""
