"""MSCCL algorithm files: reading, steps, and the proof that they do what they claim.

Touch it for another version of the format. It knows members and blocks, and neither machines nor times.
"""
