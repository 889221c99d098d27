"""Graph: nodes and edges of what the other rooms found, notes for people, and ranks on one clock.

Come here for what becomes a node, an edge or a note. Reads no file and decides nothing that a recording
tells: that is for the rooms before.
"""
