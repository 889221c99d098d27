"""MSCCL algorithm files: reading, steps, and the proof that they do what they claim."""
