"""Host threads: nested operators and calls to segments of time, and which thread waits for which.

Come here for how a thread's time is divided, for autograd's threads and for data loaders. Knows `read` only:
nothing of streams, kernels or communication.
"""
