"""Description of a transformer: its dimensions, models known by name, counts of parameters and operations.

Knows nothing of how the model is trained, nor of graphs.
"""
