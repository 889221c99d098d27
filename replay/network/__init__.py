"""What messages between two ranks cost on the machine's links."""
