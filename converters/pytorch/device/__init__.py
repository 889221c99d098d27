"""Device: kernels, copies and memsets on their streams, their launches, and who waits for them.

Come here for runtime calls of CUDA or HIP (`runtime_calls`), stream order, synchronisation and launch
latency. Knows `read` and `host`: nothing of what a kernel computes or communicates.
"""
