"""Host execution traces (ExecutionTraceObserver): read, linked with a profiler's trace, or converted alone.

Come here for a new schema of theirs, and for what an operator computes and moves (`operator_cost`). Knows
`read` and `communication`; a recording is converted without it where there is no host trace.
"""
