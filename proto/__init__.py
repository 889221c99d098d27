"""The Chakra execution-graph schema and the framing of its files.

Touch it when the schema changes: `execution_graph_pb2` is generated. It knows nothing of the rest.
"""

__all__ = ["execution_graph_pb2", "framing"]
