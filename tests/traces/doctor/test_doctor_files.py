"""The trace doctor as a whole: its properties, its command line, and real files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from doctor_cases import (
    ALL_REDUCE_KERNEL,
    COLL,
    COMP,
    HOST,
    METADATA,
    Treated,
    fail,
    in_group,
    node,
    run,
    run_json,
    tensor,
    write,
)
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces import GraphBuilder, Workload, load_workload
from chakrasim.traces.doctor import TITLES, mend
from chakrasim.traces.testing import graph

# Properties.


@given(st.integers(1, 12).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=20)))
def test_a_healthy_graph_stays_as_it_is(edges: list[tuple[int, int]]) -> None:
    builder = GraphBuilder(0)
    for row in range(12):
        builder.add(
            COMP, f"n{row}", duration_ps=1, is_cpu=row % 2 == 0, lane=f"l{row % 3}" if row % 5 else None
        )
    for a, b in edges:
        if a < b:
            builder.add_edge(a, b, control=(a + b) % 2 == 0)
    workload = Workload.from_graphs([builder.build()])
    mended, found = mend(workload)
    assert mended is workload
    assert found == ()


@pytest.mark.slow
def test_a_converted_trace_is_healthy(tmp_path: Path) -> None:
    run("convert", "sample:ddp_transformer", "-o", tmp_path / "graphs")
    document = run_json("inspect", tmp_path / "graphs", "--fix", tmp_path / "same")
    assert document["mends"] == []
    for rank in range(4):
        name = next(f.name for f in (tmp_path / "graphs").glob(f"*.{rank}.et"))
        assert (tmp_path / "graphs" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()


ATTRIBUTES: dict[str, list[tuple[str, Any] | None]] = {
    "is_cpu_op": [None, ("bool", True), ("int32", 0), ("bool", False)],
    "comm_type": [None, ("uint64", 2), ("int64", 0)],
    "comm_size": [None, ("uint64", 8), ("int64", 8)],
    "stream": [("int64", 7), ("int32", 9)],
    "tid": [("int64", 1), ("int64", 7)],
    "pg_id": [("int32", 1)],
    "lane": [("string", "mine")],
}


@st.composite
def broken_nodes(draw: Any) -> list[Any]:
    """Records with everything wrong that a few random choices can make wrong."""
    nodes = []
    ids = st.integers(0, 9)
    for _ in range(draw(st.integers(1, 9))):
        names = draw(st.sets(st.sampled_from(sorted(ATTRIBUTES))))
        nodes.append(
            node(
                draw(ids),
                draw(st.sampled_from(["gemm", "aten::mm", ALL_REDUCE_KERNEL, "ncclDevKernel_Generic(x)"])),
                draw(st.sampled_from([METADATA, COMP, COMP, COLL, COLL])),
                {name: draw(st.sampled_from(ATTRIBUTES[name])) for name in sorted(names)},
                data=tuple(draw(st.lists(ids, max_size=2))),
                control=tuple(draw(st.lists(ids, max_size=2))),
                reads=draw(st.sampled_from(["", tensor(1), tensor(2)])),
                writes=draw(st.sampled_from(["", tensor(1), tensor(2)])),
            )
        )
    return nodes


@pytest.mark.slow
@given(st.lists(broken_nodes(), min_size=1, max_size=3))
def test_mending_what_is_mended_changes_nothing(tmp_path_factory: Any, ranks: list[list[Any]]) -> None:
    once = Treated(write(tmp_path_factory.mktemp("broken"), *ranks))
    again, found = mend(once.workload)
    assert [m for m in found if m.is_mended] == []
    assert again is once.workload
    sorts = ("not in the file", "more than one node")
    assert not [p for p in once.problems() if any(sort in p for sort in sorts)]


def test_every_kind_of_mend_has_a_title(tmp_path: Path) -> None:
    assert {m.kind for m in Treated(write(tmp_path, in_group("a"))).found} <= set(TITLES)


# The command line.


def test_inspect_says_what_could_be_mended_and_fix_does_it(tmp_path: Path) -> None:
    rank = [node(1, "[pytorch|profiler|execution_trace|thread]", attrs=HOST, control=(0,)), *in_group("tp")]
    rank[1].id, rank[1].data_deps[:] = 2, [1]
    write(tmp_path, rank, rank)
    out = fail("inspect", tmp_path)
    assert "What --fix OUT would mend" in out
    assert "and 1 more like it" in out
    assert f"chakrasim inspect {tmp_path} --fix OUT mends what is certain" in out
    out = run("inspect", tmp_path, "--fix", tmp_path / "out").stdout
    assert "Mended, each of ranks 0, 1" in out
    assert "waits for node 0 (control) → doesn't" in out
    assert f"chakrasim replay {tmp_path / 'out'}" in out
    assert run_json("replay", tmp_path / "out")["step_time_ns"] > 0
    assert "mended      nothing" in run("inspect", tmp_path / "out", "--fix", tmp_path / "again").stdout


def test_fix_replaces_nothing_unless_told_to(tmp_path: Path) -> None:
    write(tmp_path, [node(0, data=(7,))])
    run("inspect", tmp_path, "--fix", tmp_path / "out")
    written = (tmp_path / "out" / "t.0.et").read_bytes()
    (tmp_path / "out" / "t.0.et").write_bytes(b"precious")
    assert "--force" in fail("inspect", tmp_path, "--fix", tmp_path / "out")
    assert (tmp_path / "out" / "t.0.et").read_bytes() == b"precious"
    run("inspect", tmp_path, "--fix", tmp_path / "out", "--force")
    assert (tmp_path / "out" / "t.0.et").read_bytes() == written
    run("inspect", tmp_path, "--fix", tmp_path / "out", "--prefix", "other")
    assert (tmp_path / "out" / "other.0.et").read_bytes() == written


def test_what_cant_be_mended_is_written_told_and_fails(tmp_path: Path) -> None:
    write(tmp_path, [*in_group("tp")])
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "--fix", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 2
    document = orjson.loads(result.stdout)
    assert [entry["kind"] for entry in document["left"]] == ["order", "group"]
    assert len(document["problems"]) == 1
    assert (tmp_path / "out" / "t.0.et").exists()
    assert "1 problems could not be mended" in result.stderr


def test_a_missing_rank_stays_missing_and_the_next_command_says_so(tmp_path: Path) -> None:
    write(tmp_path, [node(0, data=(7,))], first=2)
    out = run("inspect", tmp_path, "--fix", tmp_path / "out").stdout
    assert out.rstrip().endswith(f"chakrasim replay {tmp_path / 'out'} --partial")
    run("replay", tmp_path / "out", "--partial")


def test_profiler_traces_are_converted_not_mended(tmp_path: Path) -> None:
    file = tmp_path / "t.0.json"
    file.write_text('{"traceEvents": []}')
    assert "chakrasim convert" in fail("inspect", file, "--fix", tmp_path / "out")
    assert "give --fix OUT" in fail("inspect", "sample:ddp_transformer", "--force")


def test_every_key_of_the_document_is_documented(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs/json.md").read_text()
    write(tmp_path, [node(0, data=(7,)), *in_group("tp")])
    arguments = ["inspect", str(tmp_path), "--json"]
    documents = [
        orjson.loads(CliRunner().invoke(main, [*arguments, *more]).stdout)
        for more in ([], ["--fix", str(tmp_path / "out")])
    ]
    entries = [entry for d in documents for key in ("mendable", "mends", "left") for entry in d.get(key, ())]
    changes = [change for entry in entries for change in entry["first"]]
    assert changes
    keys = {key for part in (*documents, *entries, *changes) for key in part}
    assert not {key for key in keys if f"`{key}`" not in text}
    assert not {kind for kind in TITLES if f"`{kind}`" not in text}


# Real files.

REAL = [
    ("megatron_tp2_v100", {"kind": 4720, "pg-name": 26, "host-call": 52, "dangling": 4, "order": 44}),
    ("megatron_tp2_v100/final.0.et", {"kind": 2360, "dangling": 2, "world": 1}),
    ("dummy_2groups_et", {"lane": 3268, "stream": 82, "group": 4}),
    (
        "chakra_repo_tests",
        {"dangling": 1277, "itself": 383, "cycle": 554, "lane": 3664, "stream": 1182, "order": 12},
    ),
    ("chakra_repo_tests/workload_graph_small.json", {"dangling": 7, "host-call": 2, "size": 1}),
    ("chakra_repo_tests/workload_graph_chakra.0.json.gz", {"host-call": 14, "collective": 7, "size": 7}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), REAL, ids=[name for name, _ in REAL])
def test_real_files_are_diagnosed_mended_and_replayed(
    shared: Path, tmp_path: Path, name: str, expected: dict[str, int]
) -> None:
    trace = shared / f"real_traces/{name}"
    broken = CliRunner().invoke(main, ["inspect", str(trace)])
    assert broken.exit_code == 2
    assert "--fix OUT mends what is certain" in broken.stderr
    assert len(broken.stdout.splitlines()) < 80

    document = run_json("inspect", trace, "--fix", tmp_path / "out")
    counts: dict[str, int] = {}
    for entry in document["mends"]:
        counts[entry["kind"]] = counts.get(entry["kind"], 0) + entry["count"]
    assert {kind: counts.get(kind) for kind in expected} == expected
    assert document["problems_before"] > 0
    assert document["problems"] == []

    run("inspect", tmp_path / "out")
    for network in ("analytical", "measured"):
        replayed = run_json("replay", tmp_path / "out", "--network", network)
        assert replayed["nodes"] == document["nodes"]
        assert replayed["step_time_ns"] > 0
    again = run_json("inspect", tmp_path / "out", "--fix", tmp_path / "again")
    assert again["mends"] == []


def test_feeder_json_is_called_by_its_name(shared: Path) -> None:
    trace = shared / "real_traces/chakra_repo_tests/workload_graph_small.json"
    assert "read from feeder JSON (workload_graph)" in fail("inspect", trace)


def test_both_ranks_of_a_real_job_are_mended_alike_and_its_list_of_communicators_is_read(
    shared: Path, tmp_path: Path
) -> None:
    trace = shared / "real_traces/megatron_tp2_v100"
    document = run_json("inspect", trace, "--fix", tmp_path / "out", "--groups", trace / "comm.json")
    by_rank = [
        [entry | {"rank": 0} for entry in document["mends"] if entry["rank"] == rank] for rank in (0, 1)
    ]
    assert by_rank[0] == by_rank[1]
    assert load_workload(tmp_path / "out").groups[1].ranks == (1, 0)


def test_the_mended_kernels_of_a_stream_never_overlap(shared: Path) -> None:
    treated = Treated(shared / "real_traces/dummy_2groups_et")
    result = simulate(treated.workload, load_machine("ethernet-10g"), network="measured")
    own = treated.graph()
    rows = [row for row in range(len(own)) if own.lane_name(row) == "stream 7"]
    starts, ends = result.starts_ps[result.rows(0)].tolist(), result.ends_ps[result.rows(0)].tolist()
    spans = sorted((starts[row], ends[row], row) for row in rows)
    assert [row for _, _, row in spans] == rows
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_a_graph_from_a_line_of_text_is_healthy() -> None:
    workload = Workload.from_graphs([graph("a:10 -> b:5@stream7, a -> c:7")])
    assert mend(workload) == (workload, ())
