"""Cost of operators: floating-point operations, bytes, parameters and saved activations of each kernel.

Formulas alone. Knows nothing of graphs, ranks, models or plans.
"""
