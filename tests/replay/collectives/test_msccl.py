"""MSCCL files: small ones that are right, the same ones broken in one place, and what they take by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.collectives.algorithms import algorithm
from chakrasim.replay.collectives.algorithms.msccl.read import MscclAlgorithm, msccl_tasks, read_msccl
from chakrasim.replay.collectives.execution.endpoint import PlainEndpoint
from chakrasim.replay.collectives.execution.schedule import make_program
from chakrasim.replay.collectives.execution.task_graph import OPERATE, Task, TaskRun
from chakrasim.replay.collectives.execution.windowed import TokenRun
from chakrasim.replay.engine.event_queue import Clock, Event
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.scheduling import Scheduling
from chakrasim.replay.transport.mailbox import Mailbox
from chakrasim.traces import CommKind
from chakrasim.traces.errors import ConfigError

Xml = dict[str, Any]
LATENCY_PS, PS_PER_BYTE, ENDPOINT_PS = 1000, 10, 7


def step(
    name: str, source: tuple[str, int] = ("i", 0), to: tuple[str, int] | None = None, **other: int
) -> Xml:
    """`to` is the source where it isn't given."""
    to = to or source
    own = {"type": name, "srcbuf": source[0], "srcoff": source[1], "dstbuf": to[0], "dstoff": to[1]}
    return own | {"cnt": 1, "depid": -1, "deps": -1, "hasdep": 0} | other


def block(steps: list[Xml], send: int = -1, recv: int = -1, chan: int = 0) -> Xml:
    return {"send": send, "recv": recv, "chan": chan, "steps": steps}


def file(coll: str, chunks: int, gpus: list[list[Xml]], *, inplace: int = 0, scratch: int = 0) -> Xml:
    algo = {"coll": coll, "nchunksperloop": chunks, "ngpus": len(gpus), "inplace": inplace, "nchannels": 2}
    sizes = {"i_chunks": chunks, "o_chunks": chunks, "s_chunks": scratch}
    return {"algo": algo, "sizes": sizes, "gpus": gpus, "ids": list(range(len(gpus)))}


def text(content: Xml) -> str:
    def tag(name: str, values: Xml, end: str = ">") -> str:
        return f"<{name} {' '.join(f'{key}={str(value)!r}' for key, value in values.items())}{end}"

    lines = [tag("algo", content["algo"])]
    for number, blocks in zip(content["ids"], content["gpus"], strict=True):
        lines.append(tag("gpu", {"id": number} | content["sizes"]))
        for place, own in enumerate(blocks):
            lines.append(tag("tb", {"id": place} | {key: own[key] for key in ("send", "recv", "chan")}))
            lines += [tag("step", {"s": s} | values, "/>") for s, values in enumerate(own["steps"])]
            lines.append("</tb>")
        lines.append("</gpu>")
    return "\n".join([*lines, "</algo>"])


def ring_all_reduce(n: int) -> Xml:
    """One thread block a gpu; chunk g starts at gpu g, comes complete to g - 1, and goes around again."""
    gpus = []
    for g in range(n):
        steps = [step("s", ("i", g))]
        steps += [step("rrs", ("i", (g - k) % n)) for k in range(1, n - 1)]
        steps.append(step("rrcs", ("i", (g + 1) % n)))
        steps += [step("rcs", ("i", (g - k) % n)) for k in range(n - 2)]
        steps.append(step("r", ("i", (g + 2) % n)))
        gpus.append([block(steps, (g + 1) % n, (g - 1) % n)])
    return file("allreduce", n, gpus, inplace=1)


def direct_all_gather(n: int) -> Xml:
    gpus = []
    for g in range(n):
        blocks = [block([step("s"), step("r", to=("o", p))], p, p) for p in range(n) if p != g]
        gpus.append([*blocks, block([step("cpy", to=("o", g))])])
    return file("allgather", n, gpus)


def all_pairs_reduce_scatter(n: int) -> Xml:
    """Everyone sends to everyone into scratch; the last thread block adds up what has come."""
    gpus = []
    for g in range(n):
        others = [p for p in range(n) if p != g]
        blocks = [block([step("s", ("i", p)), step("r", to=("s", p), hasdep=1)], p, p) for p in others]
        sums = [step("re", ("s", p), ("o", 0), depid=place, deps=1) for place, p in enumerate(others)]
        gpus.append([*blocks, block([step("cpy", ("i", g), ("o", 0)), *sums])])
    return file("reduce_scatter", n, gpus, scratch=n)


def all_to_all(n: int) -> Xml:
    gpus = []
    for g in range(n):
        blocks = [block([step("s", ("i", p)), step("r", to=("o", p))], p, p) for p in range(n) if p != g]
        gpus.append([*blocks, block([step("cpy", ("i", g), ("o", g))])])
    return file("alltoall", n, gpus)


GOOD: list[Callable[[int], Xml]] = [ring_all_reduce, direct_all_gather, all_pairs_reduce_scatter, all_to_all]


Read = Callable[[Xml | str], MscclAlgorithm]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    path = tmp_path_factory.mktemp("msccl") / "a.xml"

    def read(content: Xml | str) -> MscclAlgorithm:
        path.write_text(content if isinstance(content, str) else text(content))
        return read_msccl(path)

    return read


class TestProof:
    @pytest.mark.parametrize("make", GOOD)
    @pytest.mark.parametrize("n", [2, 3, 4, 7])
    def test_good_files_pass(self, read: Read, make: Callable[[int], Xml], n: int) -> None:
        assert read(make(n)).gpus == n

    def test_a_broadcast_may_start_anywhere_and_a_reduce_end_anywhere(self, read: Read) -> None:
        root = [block([step("s")], 1), block([step("cpy", to=("o", 0))])]
        leaf = [block([step("r", to=("o", 0))], recv=0)]
        assert read(file("broadcast", 1, [root, leaf])).kind == CommKind.BROADCAST
        end = [block([step("rrc", to=("o", 0))], recv=0)]
        assert read(file("reduce", 1, [root[:1], end])).kind == CommKind.REDUCE

    def test_in_place_buffers_are_one(self, read: Read) -> None:
        # Without the copy of its own chunk a gather is right in place only.
        content = direct_all_gather(3)
        for blocks in content["gpus"]:
            blocks.pop()
        content["algo"]["inplace"] = 1
        assert read(content).in_place == (True,)
        content["algo"]["outofplace"] = 1
        with pytest.raises(ConfigError, match=r"gpu 0, buffer 'o', chunk 0: .*\(out of place\).*got nothing"):
            read(content)
        # A reduce-scatter's output is the gpu's own part of its input.
        scatter = all_pairs_reduce_scatter(3)
        scatter["algo"]["inplace"] = 1
        assert read(scatter).in_place == (True,)

    @given(st.sampled_from(GOOD), st.permutations(range(5)))
    def test_numbers_of_gpus_do_not_matter(self, make: Callable[[int], Xml], new: list[int]) -> None:
        content = make(5)
        by_owner = {"allreduce": "", "allgather": "o", "reduce_scatter": "i", "alltoall": "io"}
        moved = by_owner[content["algo"]["coll"]]
        content["ids"] = new
        for own in (own for blocks in content["gpus"] for own in blocks):
            own |= {key: new[own[key]] if own[key] >= 0 else -1 for key in ("send", "recv")}
            for values in own["steps"]:
                for end in ("src", "dst"):
                    if values[f"{end}buf"] in moved:
                        values[f"{end}off"] = new[values[f"{end}off"]]
        with NamedTemporaryFile("w", suffix=".xml") as temporary:
            temporary.write(text(content))
            temporary.flush()
            assert read_msccl(Path(temporary.name)).gpus == 5


def broken(make: Callable[[int], Xml], n: int = 3) -> tuple[Xml, Callable[[int, int, int], Xml]]:
    """A file, and its steps by gpu, thread block and step."""
    content = make(n)
    return content, lambda gpu, tb, s: content["gpus"][gpu][tb]["steps"][s]


def refused(read: Read, content: Xml, *parts: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(content)
    for part in ("a.xml: ", *parts):
        assert part in str(error.value)


class TestRefusedByTheProof:
    def test_a_wrong_offset(self, read: Read) -> None:
        content, at = broken(ring_all_reduce)
        at(1, 0, 1)["srcoff"] = 1  # adds its chunk 1 to what comes, chunk 0
        refused(read, content, "gpu 0, buffer 'o', chunk 0", "expected the sum of input chunk 0 of gpus")
        refused(read, content, "input chunk 0 of gpu 0 and input chunk 1 of gpu 1, at gpu 1, tb 0, step 1")

    def test_a_chunk_in_the_wrong_place(self, read: Read) -> None:
        content, at = broken(all_to_all)
        at(2, 0, 0)["srcoff"] = 1
        refused(
            read, content, "gpu 0, buffer 'o', chunk 2", "expected input chunk 0 of gpu 2, got input chunk 1"
        )

    def test_a_chunk_added_twice(self, read: Read) -> None:
        content, at = broken(all_pairs_reduce_scatter)
        content["gpus"][1][2]["steps"].append(dict(at(1, 2, 1)))
        refused(read, content, "gpu 1, buffer 'o', chunk 0", "gpu 0 in it twice, at gpu 1, tb 2, step 3")

    def test_a_missing_sum(self, read: Read) -> None:
        content, _ = broken(all_pairs_reduce_scatter)
        content["gpus"][2][2]["steps"].pop()
        refused(read, content, "gpu 2, buffer 'o', chunk 0", "got the sum of input chunk 2 of gpus 0, 2")

    def test_a_missing_send(self, read: Read) -> None:
        content, _ = broken(direct_all_gather)
        del content["gpus"][1][0]["steps"][0]
        refused(read, content, "gpu 0, tb 0, step 1 receives from gpu 1 on channel 0", "sends nothing to it")

    def test_a_missing_receive(self, read: Read) -> None:
        content, _ = broken(direct_all_gather)
        del content["gpus"][1][0]["steps"][1]
        refused(read, content, "gpu 0, tb 0, step 0 sends to gpu 1 on channel 0, which never receives")

    def test_a_swapped_peer(self, read: Read) -> None:
        content, _ = broken(ring_all_reduce)
        content["gpus"][1][0] |= {"send": 0, "recv": 2}
        refused(read, content, "gpu 1, tb 0, step 1 receives from gpu 2 on channel 0, which sends nothing")

    def test_messages_of_another_size(self, read: Read) -> None:
        content, at = broken(all_pairs_reduce_scatter)
        at(0, 0, 0)["cnt"] = 2
        refused(read, content, "gpu 1, tb 0, step 1 receives cnt=1; gpu 0, tb 0, step 0 sends cnt=2")

    def test_steps_that_wait_for_each_other(self, read: Read) -> None:
        content, at = broken(direct_all_gather)
        at(1, 0, 0).update(depid=1, deps=1)
        at(1, 1, 1)["hasdep"] = 1
        at(1, 1, 0).update(depid=0, deps=1)
        at(1, 0, 1)["hasdep"] = 1
        there, back = "gpu 1, tb 0, step 0", "gpu 1, tb 1, step 0"
        refused(read, content, f"deadlock: {there} waits for {back}, which waits for {there}")

    def test_gpus_that_all_receive_first(self, read: Read) -> None:
        content, _ = broken(all_to_all, 2)
        for blocks in content["gpus"]:
            blocks[0]["steps"].reverse()
        refused(
            read,
            content,
            "deadlock: gpu 0, tb 0, step 0 waits for gpu 1, tb 0, step 0, which waits for gpu 0",
        )

    def test_a_forgotten_dependence(self, read: Read) -> None:
        content, at = broken(all_pairs_reduce_scatter)
        at(2, 2, 1).update(depid=-1, deps=-1)
        refused(read, content, "gpu 2, tb 2, step 1 reads chunk 0 of buffer 's', gpu 2, tb 0, step 1 writes")


WRONG = [
    ("gpu 0, tb 0, step 3: has type='rsc'; did you mean 'r", "'rcs'", "'rsc'"),
    ("algo: has coll='allreduced'; did you mean 'allreduce'", "allreduce", "allreduced"),
    ("gpu 0: lacks the attribute 's_chunks' (has 's_chunk')", "s_chunks", "s_chunk"),
    ("gpu 0, tb 0: has an element <op>; expected <step>", "<step ", "<op "),
    ("gpu 0, tb 0, step 0: has srcoff='x'; expected a whole number in 0..", "srcoff='0'", "srcoff='x'"),
    ("step 0: has srcoff='1_0'; expected", "srcoff='0'", "srcoff='1_0'"),
    ("has cnt='0'; expected a whole number in 1..", "cnt='1'", "cnt='0'"),
    ("srcbuf='x'; expected one of i, o, s", "srcbuf='i'", "srcbuf='x'"),
    ("srcoff=0 and cnt=9, and its gpu has i_chunks=3", "cnt='1'", "cnt='9'"),
    ("step 0: has depid=5; expected a tb of its gpu (0)", "depid='-1'", "depid='5'"),
    ("deps=9; expected a step of that tb, 0..4", "depid='-1' deps='-1'", "depid='0' deps='9'"),
    ("waits for tb 0, step 1, which never tells", "depid='-1' deps='-1'", "depid='0' deps='1'"),
    ("gpu 0, tb 0: has send=0, its own gpu", "send='1'", "send='0'"),
    ("send='7'; expected a whole number in -1..2", "send='1'", "send='7'"),
    ("step 0: has type='s', and its tb has send=-1", "send='1'", "send='-1'"),
    ("chan='2'; expected a whole number in 0..1", "chan='0'", "chan='2'"),
    ("gpu 0: is there twice", "gpu id='1'", "gpu id='0'"),
    ("has ngpus=4 and no <gpu id='3'>", "ngpus='3'", "ngpus='4'"),
    ("has s='2'; expected 1, steps in order from 0 on", "s='1'", "s='2'"),
    ("expected a product of at most", "loop='3'", "loop='1000000'"),
    ("a.xml: is no XML: no element found", "</algo>", ""),
    ("a.xml: has a DOCTYPE", "<algo", '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><algo'),
]
"""What the message says, and what is put in place of the first of what."""


class TestRefusedWhenRead:
    @pytest.mark.parametrize(("message", "right", "wrong"), WRONG)
    def test_a_broken_ring(self, read: Read, message: str, right: str, wrong: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(message)):
            read(text(ring_all_reduce(3)).replace(right, wrong, 1))

    def test_another_format(self, read: Read) -> None:
        with pytest.raises(ConfigError, match="the file: has an element <system>; expected <algo>"):
            read("<system/>")

    def test_two_thread_blocks_on_one_connection(self, read: Read) -> None:
        content = all_to_all(3)
        content["gpus"][0][1]["send"] = 1
        with pytest.raises(ConfigError, match="gpu 0, tb 1: has send=1 on chan=0, as tb 0 has"):
            read(content)

    def test_shares_of_different_size(self, read: Read) -> None:
        content = all_to_all(3)
        content["algo"]["nchunksperloop"] = 4
        with pytest.raises(ConfigError, match="nchunksperloop=4; expected a multiple of ngpus=3"):
            read(content)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no\.xml: can't be read: No such file"):
            read_msccl(tmp_path / "no.xml")

    def test_another_collective(self, read: Read) -> None:
        with pytest.raises(ConfigError, match=r"a\.xml: coll is for all-reduce; expected .* all-gather"):
            tasks(read(ring_all_reduce(2)), CommKind.ALL_GATHER, 8)


def tasks(algorithm: MscclAlgorithm, kind: CommKind, size_bytes: int) -> list[list[Task]]:
    """An operation takes 7 ps, a reduction 1 ps a byte."""
    return msccl_tasks(
        algorithm, kind, size_bytes, endpoint_ps=ENDPOINT_PS, reduction_ps=lambda size_bytes: size_bytes
    )


def ends_ps(n: int, make_run: Callable[[Clock, Mailbox, Callable[[int], None]], Any]) -> list[int]:
    """When each member ends, on a network on which every message takes 1,000 ps and 10 ps a byte."""
    clock, ends = Clock(), [-1] * n

    def transmit(_source: int, _destination: int, size_bytes: int, _tag: int, arrived: Event) -> None:
        clock.at(clock.now_ps + LATENCY_PS + PS_PER_BYTE * size_bytes, arrived)

    def ended(member: int) -> None:
        ends[member] = clock.now_ps

    run = make_run(clock, Mailbox(clock, transmit), ended)
    for member in range(n):
        run.start(member)
    clock.run()
    return ends


def played(own: list[list[Task]]) -> list[int]:
    n = len(own)
    return ends_ps(
        n, lambda clock, mail, ended: TaskRun(clock, own, tuple(range(n)), PlainEndpoint(clock), mail, ended)
    )


class TestTimes:
    @pytest.mark.parametrize(
        ("n", "expected_ps"),
        [
            # 240 bytes in n chunks: 2 (n - 1) messages, each before an operation; one operation in front;
            # n - 1 reductions.
            (2, 2 * (1000 + 1200) + 3 * 7 + 1 * 120),
            (3, 4 * (1000 + 800) + 5 * 7 + 2 * 80),
            (4, 6 * (1000 + 600) + 7 * 7 + 3 * 60),
        ],
    )
    def test_a_ring_by_hand(self, read: Read, n: int, expected_ps: int) -> None:
        own = tasks(read(ring_all_reduce(n)), CommKind.ALL_REDUCE, 240)
        assert played(own) == [expected_ps] * n

    @pytest.mark.parametrize("n", [2, 3, 4, 8])
    def test_a_ring_takes_what_the_native_one_takes(self, read: Read, n: int) -> None:
        # Three passes over memory at 3 bytes a ps: a byte a ps in all.
        scheduling = Scheduling(endpoint_ps=ENDPOINT_PS, reduction_Bps=3e12)
        machine = Machine(
            "test", "", None, (Dimension("d", "switch", n, 1e11, 500),), {}, scheduling=scheduling
        )
        size_bytes = 24 * n
        program = make_program(machine, algorithm("ring"), CommKind.ALL_REDUCE, n, size_bytes)
        native = ends_ps(
            n,
            lambda clock, mail, ended: TokenRun(program, tuple(range(n)), PlainEndpoint(clock), mail, ended),
        )
        assert played(tasks(read(ring_all_reduce(n)), CommKind.ALL_REDUCE, size_bytes)) == native

    def test_direct_gather_by_hand(self, read: Read) -> None:
        # size_bytes is a member's share, of one chunk: each thread block operates, sends, receives, operates.
        own = tasks(read(direct_all_gather(3)), CommKind.ALL_GATHER, 60)
        assert played(own) == [7 + 1000 + 600 + 7] * 3

    def test_local_sums_wait_and_take_the_reduction_only(self, read: Read) -> None:
        # 180 bytes in 3 chunks; both messages come at once, their two sums follow one after the other.
        own = tasks(read(all_pairs_reduce_scatter(3)), CommKind.REDUCE_SCATTER, 180)
        assert played(own) == [7 + 1000 + 600 + 7 + 60 + 60] * 3
        sums = [t.operation for t in own[0] if t.kind == OPERATE and t.operation and t.operation.reduces]
        assert [(s.takes_ps, s.reduction_ps) for s in sums] == [(60, 60)] * 2

    def test_a_message_is_awaited_before_the_next(self, read: Read) -> None:
        # Two sends of one thread block, of 10 bytes: the second leaves when the first has landed.
        root = [block([step("s"), step("s", ("i", 1))], 1), block([step("cpy", to=("o", 0), cnt=2)])]
        leaf = [block([step("r", to=("o", 0)), step("r", to=("o", 1))], recv=0)]
        own = tasks(read(file("broadcast", 2, [root, leaf])), CommKind.BROADCAST, 21)
        assert played(own) == [7 + 1100 + 1100, 7 + 1100 + 1100 + 7]

    def test_nops_pass_their_dependences_on(self, read: Read) -> None:
        # Thread block 2 sums only after both receives, and names the first of them in a nop.
        content = all_pairs_reduce_scatter(3)
        for blocks in content["gpus"]:
            _, first, second = blocks[2]["steps"]
            nop = step("nop", ("i", -1), ("o", -1), cnt=0, depid=0, deps=1)
            first.update(depid=1, deps=1)
            second.update(depid=-1, deps=-1)
            blocks[2]["steps"].insert(1, nop)
        own = tasks(read(content), CommKind.REDUCE_SCATTER, 180)
        assert played(own) == [7 + 1000 + 600 + 7 + 60 + 60] * 3
