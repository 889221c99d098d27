"""The Chakra execution-graph schema and the framing of its files."""

__all__ = ["execution_graph_pb2", "framing"]
