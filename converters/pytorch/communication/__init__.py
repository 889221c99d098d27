"""Communication: kind, bytes, data type, process group and peer of each collective and message.

Come here for new operators, metadata keys, kernel names and backends. Knows `read`, `host` and `device`:
nothing of the graph that is made of it.
"""
