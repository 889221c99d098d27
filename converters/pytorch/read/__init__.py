"""Reading: a profiler's JSON to the columns of a `Recording`, by objects or by compiled code.

The order of the rooms, each of which knows those before it only: read, host, device, communication,
host_traces, graph. `convert.py` stands above all.

Come here for a new version of Kineto's JSON, for speed of reading, and for what PyTorch, NCCL and gloo call
things (`spellings`). Nothing here knows what a stream, a launch or a graph is.
"""
