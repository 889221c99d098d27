"""Small jobs of our own become what they did, lose no communication, and aren't pinned to recorded starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from causality import graph_of, longest_path_ps, replay, with_durations
from golden_summary import own_file, summary
from kineto_trace import Nodes
from own_jobs import JOBS, Sent, write_job

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.graph import NodeKind
from chakrasim.traces.workload import Workload

pytestmark = pytest.mark.parametrize("name", JOBS)


def ranks_alone(name: str, folder: Path) -> list[Workload]:
    return [convert_pytorch(path, partial=True) for path in sorted(write_job(name, folder).iterdir())]


def test_a_job_becomes_what_it_did(tmp_path: Path, name: str) -> None:
    assert summary(write_job(name, tmp_path)) == own_file(name).read_text()


def test_every_communication_is_kept_with_its_size(tmp_path: Path, name: str) -> None:
    workload = convert_pytorch(write_job(name, tmp_path), partial=True)
    built = JOBS[name]()
    assert set(workload.graphs) == set(built)
    for rank, graph in workload.graphs.items():
        rows = sorted(Nodes(graph).communications(), key=lambda row: graph.starts_ps[row])
        found = [
            Sent(
                NodeKind(int(graph.kinds[row])),
                int(graph.comm_kinds[row]),
                int(graph.comm_bytes[row]),
                int(graph.peers[row]),
            )
            for row in rows
        ]
        assert found == built[rank].sent


def test_without_any_durations_everything_happens_at_once(tmp_path: Path, name: str) -> None:
    for workload in ranks_alone(name, tmp_path):
        assert replay(workload, Scales(patterns=(("*", 0.0),))).step_time_ps == 0
        assert replay(workload).step_time_ps > 0  # type: ignore[operator]


@pytest.mark.parametrize("keeps_host", [True, False])
def test_one_side_alone_takes_its_longest_chain(tmp_path: Path, name: str, keeps_host: bool) -> None:
    for workload in ranks_alone(name, tmp_path):
        graph = graph_of(workload)
        own_ps = np.where(graph.is_cpu == keeps_host, graph.durations_ps, 0)
        alone = replay(with_durations(workload, own_ps)).step_time_ps
        assert alone == longest_path_ps(graph, own_ps)
