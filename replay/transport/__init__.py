"""Messages between ranks: on idle links, queued for links, and matched with their receives.

Touch it to change how bytes get from one rank to another. It knows ranks, sizes and links, and neither
collectives nor nodes of a graph.
"""
