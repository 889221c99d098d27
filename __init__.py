"""A trace-replay simulator for distributed machine-learning training."""

__version__ = "0.2.0"
