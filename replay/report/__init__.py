"""What people and programs see of a result or a trace."""
