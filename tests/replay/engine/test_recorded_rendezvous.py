"""Recorded collectives and messages: waiting is made anew by the replay, transfer is kept."""

from __future__ import annotations

from chakrasim.replay.analysis.communication import communication_times
from chakrasim.replay.compute.durations import NodeDurations, compute_model
from chakrasim.replay.costs import cost
from chakrasim.replay.engine.event_loop import run
from chakrasim.replay.engine.program import build_program
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.network import network_model
from chakrasim.replay.results.result import Result
from chakrasim.replay.simulate import NOT_SPLIT, simulate
from chakrasim.traces.builder import GraphBuilder
from chakrasim.traces.edits.scale import Scales
from chakrasim.traces.graph import CLOCK, CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.workload import Workload

US = 10**6


def rank(
    number: int, gemm_us: int, end_us: int, *, clock_us: int | None = 0, name: str = "gemm", **meeting: object
) -> ExecutionGraph:
    """A kernel from 0 on, then a collective or message that ended at `end_us`."""
    builder = GraphBuilder(number, metadata={} if clock_us is None else {CLOCK: clock_us * US})
    ahead = clock_us or 0
    gemm = builder.add(NodeKind.COMP, name, duration_ps=gemm_us * US, start_ps=ahead * US, lane="s")
    kind = meeting.pop("kind", NodeKind.COLL)
    comm_kind = meeting.pop("comm_kind", CommKind.ALL_REDUCE if kind == NodeKind.COLL else -1)
    builder.add(
        kind,  # type: ignore[arg-type]
        "meet",
        comm_kind=comm_kind,  # type: ignore[arg-type]
        comm_bytes=64,
        start_ps=(gemm_us + ahead) * US,
        duration_ps=(end_us - gemm_us) * US,
        after=[gemm],
        **meeting,  # type: ignore[arg-type]
    )
    return builder.build()


def replay(*graphs: ExecutionGraph, scales: Scales | None = None) -> Result:
    workload = Workload.from_graphs(graphs)
    return simulate(workload, load_machine("ethernet-10g"), network="measured", scales=scales or Scales())


def ends_us(result: Result) -> list[float]:
    """When each rank's last node ended."""
    return [int(result.ends_ps[result.rows(r)].max()) / US for r in result.workload.graphs]


def test_members_end_as_long_after_the_last_arrival_as_they_did() -> None:
    # the second arrives 10 us after the first; from then on it takes them 10 and 11 us
    result = replay(rank(0, 10, 30), rank(1, 20, 31))
    assert ends_us(result) == [30, 31]
    assert (result.waits_ps // US).tolist() == [0, 10, 0, 0]
    (times,) = communication_times(result)
    assert (times.time_ps, times.waiting_ps) == (11 * US, 10 * US)


def test_waiting_is_made_anew_when_arrivals_change() -> None:
    # the first rank's kernel takes twice as long: it comes with the other, and nobody waits
    slow = replay(rank(0, 10, 30, name="slow"), rank(1, 20, 31), scales=Scales(patterns=(("slow", 2.0),)))
    assert ends_us(slow) == [30, 31]
    assert slow.waits_ps.sum() == 0
    slower = replay(rank(0, 10, 30, name="slow"), rank(1, 20, 31), scales=Scales(patterns=(("slow", 4.0),)))
    assert ends_us(slower) == [50, 51]
    assert (slower.waits_ps // US).tolist() == [0, 0, 0, 20]


def test_clocks_that_differ_are_set_right() -> None:
    result = replay(rank(0, 10, 30), rank(1, 20, 31, clock_us=500))
    assert ends_us(result) == [30, 31]


def test_without_a_common_clock_the_shortest_duration_is_the_transfer() -> None:
    result = replay(rank(0, 10, 30, clock_us=None), rank(1, 20, 31))
    assert ends_us(result) == [31, 31]
    assert not result.has_recorded_rendezvous


def test_the_root_of_a_broadcast_need_not_wait() -> None:
    kind = {"comm_kind": CommKind.BROADCAST, "peer": 0}
    result = replay(rank(0, 1, 5, **kind), rank(1, 20, 31, **kind))
    assert ends_us(result) == [5, 31]
    assert result.waits_ps.sum() == 4 * US
    # but who receives waits for the root
    late = replay(
        rank(0, 1, 5, name="slow", **kind), rank(1, 20, 31, **kind), scales=Scales(patterns=(("slow", 40.0),))
    )
    assert ends_us(late) == [44, 51]


def test_members_of_an_all_reduce_wait_whatever_their_clocks_say() -> None:
    # the first seems to have ended before the second came, which can't be
    assert ends_us(replay(rank(0, 1, 5), rank(1, 20, 31))) == [20, 31]


def test_a_buffered_message_leaves_its_sender_alone() -> None:
    send, receive = {"kind": NodeKind.SEND, "peer": 1}, {"kind": NodeKind.RECV, "peer": 0}
    result = replay(rank(0, 1, 3, **send), rank(1, 20, 22, **receive))
    assert ends_us(result) == [3, 22]
    waited = replay(rank(0, 10, 13, **send), rank(1, 2, 14, **receive))
    assert ends_us(waited) == [13, 14]
    assert int(waited.waits_ps.sum()) == 8 * US


def test_a_sender_that_waited_for_its_receiver_does_so_again() -> None:
    send, receive = {"kind": NodeKind.SEND, "peer": 1}, {"kind": NodeKind.RECV, "peer": 0}
    graphs = rank(0, 1, 24, **send), rank(1, 20, 23, name="slow", **receive)
    assert ends_us(replay(*graphs)) == [24, 23]
    assert ends_us(replay(*graphs, scales=Scales(patterns=(("slow", 0.5),)))) == [14, 13]


def test_transfer_is_scaled_and_waiting_is_not() -> None:
    result = replay(rank(0, 10, 30), rank(1, 20, 30), scales=Scales(patterns=(("meet", 0.5),)))
    assert ends_us(result) == [25, 25]


def test_compiled_and_interpreted_loops_agree() -> None:
    kind = {"comm_kind": CommKind.BROADCAST, "peer": 0}
    workload = Workload.from_graphs([rank(0, 1, 5, **kind), rank(1, 20, 31, **kind), rank(2, 9, 30, **kind)])
    program = build_program(workload)
    machine = load_machine("ethernet-10g")
    costs = cost(
        program,
        machine,
        network_model("measured"),
        NodeDurations.of(program.workload, compute_model("measured", machine), Scales()),
        asks=False,
    )
    runs = []
    for is_compiled in (False, True):
        state = program.state(
            costs.durations_ps, costs.collectives_ps, costs.roles, costs.lanes, costs.rendezvous
        )
        runs.append([column.tolist() for column in run(state, is_compiled=is_compiled)])
    assert runs[0] == runs[1]


def test_a_lane_is_held_to_the_members_own_end() -> None:
    result = replay(rank(0, 10, 30, lane="s"), rank(1, 20, 31, lane="s"))
    busy = {(lane.rank, lane.name): lane.busy_ps // US for lane in result.lanes}
    assert busy == {(0, "s"): 30, (1, "s"): 31}


def test_senders_that_seem_to_wait_for_each_other_are_taken_not_to() -> None:
    """Both send before they receive. With clocks that are off, each send seems to last until the other rank
    receives, which the replay could never get to."""
    graphs = []
    for number in (0, 1):
        builder = GraphBuilder(number, metadata={CLOCK: 0})
        sent = builder.add(
            NodeKind.SEND, "send", peer=1 - number, comm_bytes=8, start_ps=0, duration_ps=50 * US, lane="s"
        )
        builder.add(
            NodeKind.RECV,
            "receive",
            peer=1 - number,
            comm_bytes=8,
            start_ps=40 * US,
            duration_ps=20 * US,
            after=[sent],
            lane="s",
        )
        graphs.append(builder.build())
    result = replay(*graphs)
    assert result.deadlock is None
    assert not result.has_recorded_rendezvous
    assert NOT_SPLIT in result.notes
    assert ends_us(result) == [20, 20]
