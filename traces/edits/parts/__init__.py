"""Steps that edits share: choosing nodes, taking rows, contracting, reconnecting.

Touch it when two edits do the same thing. It knows no single edit.
"""
