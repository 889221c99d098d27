"""Machine parameters fitted to measured collectives.

Touch it to learn a machine's figures from measurements. It knows how collectives are costed, and no workload.
"""
