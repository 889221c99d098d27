"""The trace doctor on what runs where, in which order, and with whom: lanes, streams, process groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from doctor_cases import (
    COLL,
    DEVICE,
    HOST,
    METADATA,
    REDUCED,
    Treated,
    in_group,
    node,
    tensor,
    write,
)

from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, load_workload
from chakrasim.traces.doctor import read_group_list
from chakrasim.traces.errors import TraceError
from chakrasim.traces.workload_files import save_workload

# Lanes and order.


def on(stream: int) -> dict[str, tuple[str, Any] | None]:
    return DEVICE | {"stream": ("int64", stream)}


def test_lanes_are_from_stream_and_thread(tmp_path: Path) -> None:
    nodes = [
        node(0, "call", attrs=HOST | {"tid": ("int64", 2), "stream": ("int64", 0)}),
        node(1, attrs=on(7)),
    ]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("lane") == [(0, "no lane", "thread 2"), (1, "no lane", "stream 7")]


def test_a_tid_is_the_stream_only_where_no_thread_has_it(tmp_path: Path) -> None:
    def tid(number: int, on: dict[str, tuple[str, Any]]) -> dict[str, tuple[str, Any] | None]:
        return {**on, "tid": ("int64", number)}

    early, late = tmp_path / "early", tmp_path / "late"
    early.mkdir(), late.mkdir()
    treated = Treated(write(early, [node(0, attrs=tid(1, HOST)), node(1, attrs=tid(7, DEVICE))]))
    assert treated.mended("lane")[1] == (1, "no lane", "stream 7")
    treated = Treated(write(late, [node(0, attrs=tid(1, HOST)), node(1, attrs=tid(1, DEVICE))]))
    assert treated.mended("lane") == [(0, "no lane", "thread 1")]
    assert [what[:2] for what in treated.left("lane")] == [(1, "no lane")]


def test_kernels_of_a_stream_run_one_after_the_other(tmp_path: Path) -> None:
    nodes = [
        node(0, attrs=on(7)),
        node(1, attrs=on(9)),
        node(2, attrs=on(7)),
        node(3, attrs=on(7), data=(2,)),
    ]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("stream") == [(2, "no order on stream 7", "after node 0 (control)")]
    assert [treated.parents(i) for i in range(4)] == [set(), set(), {0}, {2}]
    # Two streams: 5 us on one, 3 x 5 us on the other.
    assert simulate(treated.workload, load_machine("ethernet-10g")).step_time_ps == 15_000_000


def test_a_streams_order_gives_way_to_dependencies(tmp_path: Path) -> None:
    nodes = [node(0, attrs=on(7), data=(1,)), node(1, attrs=on(9), data=(2,)), node(2, attrs=on(7))]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("stream") == [(0, "no order on stream 7", "after node 2 (control)")]
    assert treated.problems() == []


def test_a_collective_comes_between_the_kernels_that_share_its_tensor(tmp_path: Path) -> None:
    nodes = [
        node(0, attrs=on(7), writes=tensor(1)),
        node(1, attrs=on(7), writes=tensor(2)),
        node(2, "all", COLL, REDUCED | on(9), reads=tensor(1)),
        node(3, attrs=on(7), reads=tensor(2)),
        node(4, attrs=on(7), reads=tensor(1)),
    ]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("order") == [
        (2, "no order with node 0", "after node 0 (control)"),
        (4, "no order with node 2", "after node 2 (control)"),
    ]
    assert treated.parents(2) == {0}
    assert treated.parents(4) == {3, 2}


def test_a_tensor_allocated_anew_orders_nothing(tmp_path: Path) -> None:
    nodes = [
        node(0, "all", COLL, REDUCED | on(9), reads=tensor(1)),
        node(1, "aten::empty", attrs=HOST, writes=tensor(1)),
        node(2, attrs=on(7), reads=tensor(1), data=(1,)),
    ]
    treated = Treated(write(tmp_path, nodes))
    assert treated.mended("order") == []
    assert [what for _, what, _ in treated.left("order")] == ["no kernel known before or after it"]


def test_an_all_gather_orders_nothing_after_what_it_only_reads(tmp_path: Path) -> None:
    gather = REDUCED | on(9) | {"comm_type": ("int64", int(CommKind.ALL_GATHER))}
    nodes = [
        node(0, attrs=on(7), writes=tensor(1)),
        node(1, "gather", COLL, gather, reads=tensor(1)),
        node(2, attrs=on(7), reads=tensor(1)),
    ]
    treated = Treated(write(tmp_path, nodes))
    assert (treated.parents(1), treated.parents(2)) == ({0}, {0})


# Groups.


def init(*entries: dict[str, Any]) -> Any:
    """The node in which PyTorch lists its groups: the text of a list with one JSON string."""
    text = f"['{orjson.dumps(entries).decode()}']"
    return node(9, "## process_group:init ##", METADATA, HOST, reads=text)


def test_a_name_that_every_rank_uses_alike_is_all_ranks(tmp_path: Path) -> None:
    treated = Treated(write(tmp_path, *[in_group("tp") for _ in range(3)]))
    assert treated.mended("group", 2) == [(0, "group 'tp' has no ranks", "ranks 0, 1, 2")]
    assert treated.workload.groups[1].ranks == (0, 1, 2)
    save_workload(treated.workload, tmp_path / "out")
    assert load_workload(tmp_path / "out").groups[1].name == "tp"


@pytest.mark.parametrize(
    ("ranks", "why"),
    [
        ([in_group("tp"), in_group("tp", 32)], "not for the same collectives"),
        ([in_group("tp"), in_group("tp"), [node(0)]], '--groups FILE with {"tp": [0, 1]}'),
        ([in_group("tp"), [node(0)]], '--groups FILE with {"tp": [0]}'),
        ([in_group("tp")], '--groups FILE with {"tp": [0, …]}'),
    ],
)
def test_a_group_that_may_be_another_is_told(tmp_path: Path, ranks: list[list[Any]], why: str) -> None:
    treated = Treated(write(tmp_path, *ranks))
    assert treated.mended("group") == []
    assert why in treated.left("group")[0][2]
    assert "doesn't exist" in treated.problems()[0]


def test_a_group_of_another_name_fits_if_it_alone_has_those_ranks(tmp_path: Path) -> None:
    listed = init({"pg_name": "5", "ranks": [1, 0]})
    treated = Treated(write(tmp_path, [*in_group("tp"), listed], in_group("tp"), [node(0)]))
    assert treated.mended("group") == [(0, "group 'tp' has no ranks", "ranks 1, 0")]


def test_another_ranks_list_is_good_for_all_members(tmp_path: Path) -> None:
    listed = init({"pg_name": "tp", "ranks": [0, 1]})
    treated = Treated(write(tmp_path, [*in_group("tp"), listed], in_group("tp"), [node(0)]))
    assert treated.mended("group", 1) == [(0, "group 'tp' has no ranks", "ranks 0, 1")]
    assert treated.mended("group", 0) == []


def test_the_default_group_without_ranks_is_all_of_them(tmp_path: Path) -> None:
    listed = init({"pg_name": "0", "pg_desc": "default_pg", "ranks": [], "group_size": 2})
    treated = Treated(write(tmp_path, [*in_group("0"), listed], [*in_group("0"), listed]))
    assert treated.workload is treated.before
    assert treated.left("group") == []
    assert treated.workload.groups[0].ranks == (0, 1)


@pytest.mark.parametrize("default", [[], [{"pg_name": "0", "ranks": [], "group_size": 4}]])
def test_a_group_listed_without_ranks_that_is_smaller_than_the_world_is_not_all_of_it(
    tmp_path: Path, default: list[dict[str, Any]]
) -> None:
    listed = init(*default, {"pg_name": "tp", "ranks": [], "group_size": 2})
    treated = Treated(write(tmp_path, *[[*in_group("tp"), listed] for _ in range(4)]))
    assert treated.mended("group") == []
    assert "listed as a group of 2" in treated.left("group")[0][2]
    assert bool(treated.problems()) == bool(default)  # only a larger group beside it says that it is not all


@pytest.mark.parametrize(
    ("entry", "ranks"),
    [
        ({"pg_name": 5, "ranks": "[1, 0]"}, {"5": (1, 0)}),
        ({"pg_name": "5", "ranks": [0, "x"], "group_size": "2"}, {"5": ()}),
        ({"ranks": [0]}, {}),
    ],
)
def test_odd_lists_of_groups_are_read_as_far_as_they_go(
    tmp_path: Path, entry: dict[str, Any], ranks: dict[str, tuple[int, ...]]
) -> None:
    assert Treated(write(tmp_path, [init(entry)])).graph().groups == ranks


def test_one_rank_of_a_listed_job_knows_how_many_there_are(tmp_path: Path) -> None:
    listed = init({"pg_name": "0", "pg_desc": "default_pg", "ranks": [], "group_size": 4})
    treated = Treated(write(tmp_path, [*in_group("0"), listed]))
    assert treated.mended("world") == [(None, "no number of ranks", "4 ranks")]
    assert (treated.workload.world_size, treated.workload.is_partial) == (4, True)


def test_groups_that_are_given_are_written_into_the_graphs(tmp_path: Path) -> None:
    ranks = [in_group("tp"), in_group("tp"), [node(0)]]
    treated = Treated(write(tmp_path, *ranks), groups={"tp": (1, 0)})
    assert treated.problems() == []
    save_workload(treated.workload, tmp_path / "out")
    assert load_workload(tmp_path / "out").groups[1].ranks == (1, 0)


def test_a_list_of_communicators_is_a_file_of_groups(tmp_path: Path) -> None:
    path = tmp_path / "comm.json"
    members = [{"globalRank": 1, "rank": 0}, {"globalRank": 0, "rank": 1}]
    path.write_bytes(orjson.dumps({"communicators": [{"communicatorId": 13, "nodes": members}]}))
    assert read_group_list(path) == {"13": (1, 0)}
    path.write_bytes(orjson.dumps({"communicators": [{"nodes": members}]}))
    with pytest.raises(TraceError, match="communicatorId"):
        read_group_list(path)
    path.write_text('{"1": [0]}')
    assert read_group_list(path) == {"1": (0,)}
