"""Edits of whole jobs: one step of a recording, other sizes and groups, more ranks; and real traces."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from edit_cases import US, columns, durations_us, edges, ranks

from chakrasim.replay.analysis.communication import communication_times
from chakrasim.replay.cli.open_workload import open_workload
from chakrasim.replay.machine.load import DEFAULT_MACHINE, load_machine
from chakrasim.replay.simulate import simulate
from chakrasim.traces import CommKind, GraphBuilder, NodeKind, Workload
from chakrasim.traces.check import check_workload
from chakrasim.traces.edits.collapse import collapse_host
from chakrasim.traces.edits.drop import drop
from chakrasim.traces.edits.groups import regroup
from chakrasim.traces.edits.parts.start import LATER_START
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.edits.sizes import resize
from chakrasim.traces.edits.step import cut_step
from chakrasim.traces.edits.widen import widen
from chakrasim.traces.errors import ConfigError, TraceError, UnknownName
from chakrasim.traces.graph import CLOCK
from chakrasim.traces.workload_files import load_workload, save_workload

MACHINE = load_machine(DEFAULT_MACHINE)


# One step


def stepped(rank: int = 0, *, late_us: int = 0, **metadata: object) -> GraphBuilder:
    """Steps #4 over 0 to 10 and #5 over 10 to 20 us: host nodes of 4 us, each launching one at its end."""
    names = {
        "profiler_steps": ["ProfilerStep#4", "ProfilerStep#5"],
        "profiler_step_ps": [10 * US, 10 * US],
        "profiler_step_starts_ps": [late_us * US, (10 + late_us) * US],
    }
    builder = GraphBuilder(rank, metadata={**names, **metadata})
    host: list[int] = []
    kernel: list[int] = []
    for number in range(5):
        begun = (4 * number + late_us) * US
        host = [
            builder.add(
                NodeKind.COMP,
                f"h{number}",
                duration_ps=4 * US,
                start_ps=begun,
                is_cpu=True,
                lane="thread",
                after=host,
            )
        ]
        # On the device with 5 us each, so the later they come, the longer after their launch.
        kernel = [
            builder.add(
                NodeKind.COLL,
                f"k{number}",
                duration_ps=5 * US,
                start_ps=begun + (4 + number) * US,
                lane="stream",
                comm_kind=CommKind.ALL_REDUCE,
                comm_bytes=8,
                after=[*host, *kernel],
            )
        ]
    return builder


def test_a_step_has_what_was_launched_in_it() -> None:
    # h2 runs from 8 to 12: its last 2 us belong to step 5, and with them what it launched at 12.
    cut = cut_step(Workload.from_graphs([stepped().build()], name="job"), "5")
    made = cut.graphs[0]
    assert durations_us(made) == {"h2": 2, "k2": 5, "h3": 4, "k3": 5, "h4": 4, "k4": 5}
    assert edges(made) == {"h2>h3", "h3>h4", "h2>k2", "h3>k3", "h4>k4", "k2>k3", "k3>k4"}
    assert made.metadata["profiler_steps"] == ["ProfilerStep#5"]
    assert cut.notes == ("cut out step 'ProfilerStep#5': 6 of 10 nodes on 1 ranks",)


def test_steps_share_out_the_host_s_time() -> None:
    workload = Workload.from_graphs([stepped().build()], name="job")
    first, second = (cut_step(workload, name).graphs[0] for name in ("ProfilerStep#4", "ProfilerStep#5"))
    assert durations_us(first) == {"h0": 4, "k0": 5, "h1": 4, "k1": 5, "h2": 2}
    hosts = [int(g.durations_ps[g.is_cpu].sum()) // US for g in (first, second)]
    assert hosts == [10, 10]


def test_a_latency_is_in_the_step_of_what_waits_for_it() -> None:
    builder = stepped()
    latency = builder.add(NodeKind.COMP, "late", duration_ps=US, start_ps=19 * US, is_cpu=True, lane="")
    builder.add_edge(2, latency)
    builder.add_edge(latency, 3)
    cut = cut_step(Workload.from_graphs([builder.build()], name="job"), "4")
    assert "late" in durations_us(cut.graphs[0])


def test_ranks_whose_step_began_later_begin_later() -> None:
    # Rank 1's clock is 1 us ahead, and its step began 3 us later by it.
    made = [stepped(0, **{CLOCK: 0}).build(), stepped(1, late_us=3, **{CLOCK: US}).build()]
    cut = cut_step(Workload.from_graphs(made, name="job"), "5")
    assert [durations_us(g).get(LATER_START) for g in cut.graphs.values()] == [None, 2]


def test_a_collective_may_not_lie_in_the_step_on_some_ranks_only() -> None:
    # On rank 1 the step ends before h4 is launched.
    made = [stepped(0).build(), stepped(1, profiler_step_ps=[10 * US, 8 * US]).build()]
    with pytest.raises(ConfigError, match=r"but leaves node 9 .*of rank 0, which is the same collective"):
        cut_step(Workload.from_graphs(made, name="job"), "5")


@pytest.mark.parametrize(
    ("metadata", "step", "problem"),
    [
        ({}, "3", "no profiler step on rank 0 '3'"),
        ({"profiler_steps": []}, "5", "records no profiler steps"),
        ({"profiler_step_starts_ps": []}, "5", "doesn't say when its profiler steps begin"),
    ],
)
def test_a_step_that_can_t_be_cut_out_is_told(metadata: dict[str, object], step: str, problem: str) -> None:
    workload = Workload.from_graphs([stepped(0, **metadata).build()], name="job")
    with pytest.raises((TraceError, UnknownName), match=problem):
        cut_step(workload, step)


# Sizes


def sizes(workload: Workload) -> list[list[int]]:
    return [graph.comm_bytes[graph.comm_bytes >= 0].tolist() for graph in workload.graphs.values()]


def test_sizes_change_by_a_factor_or_to_a_number_and_forget_what_was_recorded() -> None:
    workload = ranks(2)
    held = [columns(graph) for graph in workload.graphs.values()]
    halved = resize(workload, "*", factor=0.5)
    assert sizes(halved) == [[50, 60]] * 2
    assert sizes(resize(workload, "reduce", size_bytes=7)) == [[7, 120]] * 2
    graph = halved.graphs[0]
    assert (graph.durations_ps // US).tolist() == [5, 0, 0, 2]
    assert "4 nodes on 2 ranks" in halved.notes[0]
    assert [columns(graph) for graph in workload.graphs.values()] == held


def test_a_size_needs_a_collective_and_a_sane_number() -> None:
    with pytest.raises(ConfigError, match="no collective or message with a size has a name like 'forward'"):
        resize(ranks(2), "forward", factor=2)
    with pytest.raises(ConfigError, match="expected a factor of 0 or more"):
        resize(ranks(2), "reduce", factor=-1)
    with pytest.raises(
        ConfigError, match=r"size of 'reduce' times 1e\+30 is over 1,000,000,000,000,000 bytes"
    ):
        resize(ranks(2), "reduce", factor=1e30)
    with pytest.raises(ConfigError, match="expected bytes, 0 to 1,000,000,000,000,000"):
        resize(ranks(2), "reduce", size_bytes=10**30)


# Groups


def groups(workload: Workload, name: str) -> list[tuple[int, ...]]:
    """For each rank the ranks of the group of its collective of that name."""
    found = []
    for rank, graph in workload.graphs.items():
        row = [graph.name(row) for row in range(len(graph))].index(name)
        found.append(workload.groups[int(workload.group_index(rank)[row])].ranks)
    return found


def test_collectives_go_to_new_groups_by_ranks() -> None:
    put = regroup(ranks(4), "reduce", [(0, 1), (2, 3)])
    assert groups(put, "reduce_grads") == [(0, 1), (0, 1), (2, 3), (2, 3)]
    assert groups(put, "gather_weights") == [(0, 1, 2, 3)] * 4
    assert not check_workload(put)


def test_each_rank_takes_its_own_group_of_a_name(tmp_path: Path) -> None:
    paired = regroup(ranks(4), "reduce", [(0, 2), (1, 3)])
    save_workload(paired, tmp_path, "job")
    read = load_workload(tmp_path)
    back = regroup(read, "reduce", "world")
    assert groups(read, "reduce_grads") == [(0, 2), (1, 3), (0, 2), (1, 3)]
    assert groups(back, "reduce_grads") == [(0, 1, 2, 3)] * 4
    again = regroup(ranks(2, "dp", dp=[0, 1]), "gather", "world")
    assert groups(regroup(again, "gather", "dp"), "gather_weights") == [(0, 1)] * 2


def test_a_group_has_to_exist_and_to_have_the_rank() -> None:
    with pytest.raises(UnknownName, match="no process group 'worlds'; did you mean 'world'"):
        regroup(ranks(2), "reduce", "worlds")
    with pytest.raises(ConfigError, match="none of the groups 0,1 lists it"):
        regroup(ranks(3), "reduce", [(0, 1)])


# Widening


def test_the_world_is_widened_with_all_reduces_kept_and_shards_shrunk() -> None:
    wide = widen(ranks(2), 8)
    assert wide.world_size == 8
    assert wide.groups[0].ranks == tuple(range(8))
    assert sizes(wide) == [[100, 30]] * 8  # 120 of 2 ranks are 30 of 8
    assert not check_workload(wide)
    assert "from 2 to 8 ranks" in wide.notes[0]


def test_copies_share_their_columns() -> None:
    wide = widen(ranks(2), 8)
    assert wide.graphs[6].kinds is wide.graphs[0].kinds


def test_widening_to_the_same_number_changes_nothing() -> None:
    workload = ranks(2)
    assert widen(workload, 2).graphs is workload.graphs
    assert sizes(widen(workload, 2)) == sizes(workload)


def pipelines(stride: int) -> Workload:
    """Four ranks, two stages by two replicas; `stride` is how far replicas lie apart.

    Stage 0 sends to stage 1 of its replica; each stage all-reduces over its replicas, in group dp, and
    broadcasts within its replica from stage 0, in group pp.
    """
    other = 3 - stride  # how far stages lie apart
    made = []
    for rank in range(4):
        replica, stage = rank // stride % 2, rank // other % 2
        builder = GraphBuilder(
            rank,
            groups={
                "dp": (stage * other, stage * other + stride),
                "pp": (replica * stride, replica * stride + other),
            },
        )
        kind = NodeKind.RECV if stage else NodeKind.SEND
        peer = rank - other if stage else rank + other
        message = builder.add(kind, "activations", peer=peer, comm_bytes=64, tag=0)
        reduce = builder.add(NodeKind.COLL, "grads", comm_kind=0, comm_bytes=100, group="dp", after=[message])
        builder.add(
            NodeKind.COLL,
            "loss",
            comm_kind=CommKind.BROADCAST,
            comm_bytes=4,
            peer=replica * stride,
            group="pp",
            after=[reduce],
        )
        made.append(builder.build())
    return Workload.from_graphs(made, name="job")


@pytest.mark.parametrize(
    ("stride", "dp", "pp", "peers"),
    [
        # Replicas two apart, 0 and 2: new ones are 4 and 6, so stage 0 is on the even ranks.
        (2, [(0, 2, 4), (1, 3, 5)], [(0, 1), (2, 3), (4, 5)], [1, 0, 3, 2, 5, 4]),
        # Replicas side by side, 0 and 1: stage 0 is then on ranks 0 to 2, stage 1 on 3 to 5.
        (1, [(0, 1, 2), (3, 4, 5)], [(0, 3), (1, 4), (2, 5)], [3, 4, 5, 0, 1, 2]),
    ],
)
def test_other_groups_and_messages_are_copied_by_position(
    stride: int, dp: list[tuple[int, ...]], pp: list[tuple[int, ...]], peers: list[int]
) -> None:
    wide = widen(pipelines(stride), 3, "dp")
    assert not check_workload(wide)
    assert sorted(set(groups(wide, "grads"))) == dp
    assert sorted(set(groups(wide, "loss"))) == pp
    assert [int(graph.peers[0]) for graph in wide.graphs.values()] == peers
    roots = [int(graph.peers[2]) for graph in wide.graphs.values()]
    assert all(root == min(ranks) for root, ranks in zip(roots, groups(wide, "loss"), strict=True))
    assert simulate(wide, MACHINE).deadlock is None


def test_messages_between_replicas_need_whole_copies() -> None:
    made = []
    for rank in range(2):
        builder = GraphBuilder(rank)
        builder.add(NodeKind.RECV if rank else NodeKind.SEND, "m", peer=1 - rank, comm_bytes=8)
        builder.add(NodeKind.COLL, "c", comm_kind=0, comm_bytes=8)
        made.append(builder.build())
    workload = Workload.from_graphs(made, name="job")
    assert [int(g.peers[0]) for g in widen(workload, 4).graphs.values()] == [1, 0, 3, 2]
    with pytest.raises(ConfigError, match="can only grow to a multiple of 2, not to 3"):
        widen(workload, 3)


def test_what_can_t_be_widened_is_told() -> None:
    with pytest.raises(ConfigError, match=r"collectives of groups 'dp .*say which one is data parallel"):
        widen(pipelines(2), 8)
    with pytest.raises(UnknownName, match="no process group 'ddp'; did you mean 'dp'"):
        widen(pipelines(2), 8, "ddp")
    with pytest.raises(ConfigError, match="expected as many or more"):
        widen(ranks(4), 2)
    uneven = ranks(4, "dp", dp=[0, 1, 3])
    with pytest.raises(ConfigError, match="alike and evenly spaced"):
        widen(uneven, 8, "dp")


def test_a_widened_job_can_be_kept(tmp_path: Path) -> None:
    wide = widen(pipelines(2), 4, "dp")
    save_workload(wide, tmp_path, "wide")
    read = load_workload(tmp_path)
    assert groups(read, "loss") == groups(wide, "loss")
    assert simulate(read, MACHINE).step_time_ps == simulate(wide, MACHINE).step_time_ps


# Real traces


@pytest.fixture(scope="module")
def megatron(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """Two ranks of Megatron, tensor parallel, on V100."""
    folder = tmp_path_factory.mktemp("tp2")
    for rank in range(2):
        shutil.copy(shared / f"real_traces/megatron_tp2_v100/device.{rank}.json.gz", folder)
    return open_workload(str(folder))


def test_a_real_trace_replays_without_its_collectives(megatron: Workload) -> None:
    without = drop(megatron, "nccl*")
    dropped = sum(graph.is_communication.sum() for graph in megatron.graphs.values())
    assert dropped == 26
    assert not any(graph.is_communication.any() for graph in without.graphs.values())
    assert not check_workload(without)
    replayed = simulate(without, MACHINE)
    assert communication_times(replayed) == ()
    assert replayed.step_time_ps is not None
    assert replayed.step_time_ps <= simulate(megatron, MACHINE, network="measured").step_time_ps


def test_collapsing_the_host_of_a_real_trace_moves_no_other_node(megatron: Workload) -> None:
    collapsed = collapse_host(megatron)
    before, after = (simulate(w, MACHINE, network="measured") for w in (megatron, collapsed))
    assert len(collapsed) < len(megatron) / 2
    for rank, graph in collapsed.graphs.items():
        was = np.searchsorted(megatron.graphs[rank].ids, graph.ids)
        assert np.array_equal(after.starts_ps[after.rows(rank)], before.starts_ps[before.rows(rank)][was])
    assert after.ranks == before.ranks


def test_a_host_without_time_leaves_a_real_step_to_its_device(megatron: Workload) -> None:
    step_time_ps = simulate(megatron, MACHINE, network="measured").step_time_ps
    fast = simulate(megatron, MACHINE, network="measured", scales=Scales(cpu=0))
    assert fast.step_time_ps < step_time_ps / 2


def test_a_step_of_a_real_trace_takes_as_long_as_it_did(shared: Path) -> None:
    path = shared / "real_traces/hta_nccl_metadata_a100_rank0of2/device.0.json.gz"
    workload = open_workload(str(path))
    metadata = next(iter(workload.graphs.values())).metadata
    for name, length_ps in zip(metadata["profiler_steps"], metadata["profiler_step_ps"], strict=True):
        replayed = simulate(cut_step(workload, name), MACHINE, network="measured")
        assert replayed.step_time_ps == pytest.approx(length_ps, rel=0.01)


def test_the_sample_is_widened() -> None:
    workload = open_workload("sample:ddp_transformer")
    wide = widen(workload, 8)
    assert len(wide) == 2 * len(workload)
    result = simulate(wide, MACHINE)
    times = [entry.finish_ps for entry in result.ranks]
    assert times[:4] == times[4:]
    assert result.step_time_ps > simulate(workload, MACHINE).step_time_ps
