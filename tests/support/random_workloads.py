"""Random workloads of ranks that meet, for property tests of the replay."""

from __future__ import annotations

from hypothesis import strategies as st
from replay_cases import coll, recv, send

from chakrasim.traces import GraphBuilder, NodeKind, Workload


def random_workload(data: st.DataObject, ranks: int) -> Workload:
    """Ranks with the same sequence of collectives and messages, in program order and so without deadlock, and
    compute of their own around it."""
    steps = data.draw(st.lists(st.sampled_from(["all", "low", "ring"]), max_size=4))
    builders = [GraphBuilder(i, groups={"low": [0, 1]}) for i in range(ranks)]
    durations_ps = st.integers(0, 40)
    lanes = st.sampled_from([None, "", "a", "b"])
    for number, builder in enumerate(builders):
        last: list[int] = []
        for step in [*steps, "end"]:
            for _ in range(data.draw(st.integers(0, 4))):
                row = len(builder)
                parents = data.draw(st.sets(st.integers(0, row - 1), max_size=3)) if row else set()
                kind = data.draw(st.sampled_from([NodeKind.COMP, NodeKind.MEM_LOAD, NodeKind.METADATA]))
                builder.add(
                    kind,
                    "node",
                    duration_ps=data.draw(durations_ps),
                    lane=data.draw(lanes),
                    is_cpu=data.draw(st.booleans()),
                    after=sorted(parents),
                )
            after = last + ([len(builder) - 1] if len(builder) else [])
            if step == "all" or (step == "low" and number < 2):
                last = [coll(builder, *after, group="low" if step == "low" else None)]
            elif step == "ring" and ranks > 1:
                out = send(builder, (number + 1) % ranks, *after)
                last = [out, recv(builder, (number - 1) % ranks, *after)]
    return Workload.from_graphs([builder.build() for builder in builders], world_size=ranks)
