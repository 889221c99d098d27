"""What if: each edit takes a graph or a workload and returns another one. The arguments stay as they are."""
