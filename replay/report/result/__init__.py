"""Views of a replay's result: JSON, tables and timelines.

Touch it to show more of a replay. It knows no other view, and works out no figure.
"""
