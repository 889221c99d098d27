"""Views of traces: what is in them, what is wrong with them, and what was mended."""
