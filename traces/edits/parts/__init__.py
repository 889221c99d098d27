"""What edits are made of: choosing nodes, taking rows, contracting, reconnecting."""
