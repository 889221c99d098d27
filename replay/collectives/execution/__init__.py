"""Collectives in flight: chunks, queues and phases, played message by message on a transport.

Touch it to change how a collective is scheduled. It knows machines, transports and algorithms, and nothing of
graphs, nodes or the replay loop.
"""
