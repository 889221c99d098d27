"""Functions of a result. They return numbers, never text or JSON.

- `communication.communication_times`: collectives by process group and kind, and messages.
- `critical_path.critical_path`: the chain of nodes that the step time is made of; `parts` adds it up by name.
- `exposure.exposed_by_kind`: communication that no compute of the rank hides, by kind and group.
- `stragglers.find_stragglers`: who arrived last at collectives, what others waited, and what made it late.
- `memory.memory_of_ranks`: peak and held memory of each rank; `activations` over time.
- `throughput.throughput`: tokens a second, and model FLOPs utilisation.
- `by_attribute.shares`: time by layer, pass or any other attribute of nodes.
- `fidelity`: a replay of the unchanged trace beside its recording.

Touch it to answer a new question about a replay: a file here, with a function that takes a `Result`.
"""
