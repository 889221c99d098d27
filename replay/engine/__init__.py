"""The replay loop: events in order of time over columns of nodes, lanes and what nodes wait for.

Touch it to change when a node starts or ends. It is given durations and knows no machine, network model or
collective algorithm: what only a network can tell it asks through `coupled.py`.
"""
