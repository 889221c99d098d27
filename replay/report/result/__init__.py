"""Views of a replay's result."""
