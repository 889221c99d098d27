"""Rules of a simulator: ours, and those of ASTRA-sim 1.0 and 2.x, which imported files follow.

`docs/astra-sim.md` lists the differences in a table; each is one field here, and `Rules()` is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_NS

T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """One simulator's answers to what others decide differently."""

    name: str = "chakrasim"
    """Name of the rules in a machine file's `scheduling: rules`."""

    # messages
    message_pays: Literal["all", "innermost", "outermost"] = "all"
    """Dimensions that cost a message latency and bandwidth, of those in which its ends differ."""
    rounds_latency: bool = False
    """A message's latency is rounded down to whole cycles before its bytes are added."""
    stores_and_forwards: bool = False
    """Store and forward: where messages queue, each is stored whole at a link's end before it goes on to the
    next."""
    shares_links: bool = True
    """Messages of one step that cross the same link share its bandwidth."""
    plays_for_shared_memory: bool = False
    """On shared remote memory all messages are played one by one: of the ranks that leave a
    collective in the same tick, the one whose last message was scheduled first is served first."""

    # collectives
    chunking: Literal["even", "remainder", "full"] = "even"
    """Splitting of a collective into chunks, see `chunk_bytes`."""
    reduces_by_token: bool = False
    """Reductions are counted by the position of a token in its cycle, not by the messages that are added up;
    a double binary tree adds up on the way down too."""
    passes_single_blocks: bool = False
    """A ring all-to-all passes on one block at a time, in n (n - 1) / 2 messages."""
    needs_every_algorithm: bool = True
    """A collective runs over all dimensions that its group spans; if not, over those that its list of
    algorithms, which may be shorter than the network, names."""
    subgroup_endpoint_ps: int | None = None
    """Endpoint delay in a ring of some ranks; None is as everywhere."""
    members_end_together: bool = False
    """A phase ends for all its members when it ends for the last."""
    ties_by_dimension: bool = False
    """A rank's chunks that end in the same tick go on in ascending order of dimension."""
    runs_odd_algorithms: bool = False
    """A halving-doubling all-gather of any number of members, and a tree for kinds other than all-reduce, get
    the time of what the simulator does in their place."""
    has_all_kinds: bool = True
    """Rooted collectives and barriers exist; if not, they are costed as a whole, with a note."""

    # nodes
    ends_one_by_one: bool = False
    """Each node that ends starts what it can before the next one of the same tick ends."""
    min_compute_is_a_cycle: bool = False
    """A compute node takes a cycle at least."""
    broadcasts_are_recorded: bool = False
    """A broadcast takes its recorded duration and waits for nobody."""
    memory_is_remote: bool = False
    """Every memory node uses the remote memory, whatever its recorded duration."""
    markers_use_the_network: bool = False
    """An INVALID node starts when the rank's communication unit is free."""
    exposes_idle_time: bool = False
    """Exposed communication is the finish less the durations of the device's compute nodes, idle time
    included."""

    def paid(self, dimensions: Sequence[T]) -> Sequence[T]:
        """Dimensions, given from the inside outwards, in the order in which a message pays for them: for all
        in which its ends differ, or for the first of those only."""
        return dimensions[::-1] if self.message_pays == "outermost" else dimensions

    def runs(self, kind: CommKind) -> bool:
        """A collective of this kind is carried out by an algorithm, not costed as a whole."""
        return self.has_all_kinds or kind in (
            CommKind.ALL_REDUCE,
            CommKind.ALL_GATHER,
            CommKind.ALL_TO_ALL,
            CommKind.REDUCE_SCATTER,
            CommKind.REDUCE_SCATTER_BLOCK,
        )

    def chunk_bytes(self, kind: CommKind, size_bytes: int, chunks: int, world_size: int) -> list[int]:
        """Bytes of each chunk of a collective, in order.

        `even`: as many near-equal pieces as asked for, but none without bytes. `remainder`: pieces of a size
        rounded down, and one more of what remains. `full`: that last one is as large as the others too, and
        but for an all-gather none has fewer bytes than the machine has ranks.
        """
        if self.chunking == "even":
            count = max(1, min(chunks, size_bytes))
            piece, larger = divmod(size_bytes, count)
            return [piece + 1] * larger + [piece] * (count - larger)
        piece = size_bytes // chunks
        if self.chunking == "full" and kind != CommKind.ALL_GATHER and piece < world_size:
            return [world_size] * chunks
        if piece == 0:
            return [size_bytes]
        if self.chunking == "full":
            return [piece] * -(-size_bytes // piece)
        full, rest = divmod(size_bytes, piece)
        return [piece] * full + [rest] * (rest > 0)


CHAKRASIM = Rules()
ASTRA_SIM_1 = Rules(
    name="astra-sim-1",
    message_pays="outermost",
    rounds_latency=True,
    stores_and_forwards=True,
    shares_links=False,
    chunking="remainder",
    reduces_by_token=True,
    passes_single_blocks=True,
    needs_every_algorithm=False,
    members_end_together=True,
    ties_by_dimension=True,
    runs_odd_algorithms=True,
    has_all_kinds=False,
    ends_one_by_one=True,
    exposes_idle_time=True,
)
ASTRA_SIM_2 = Rules(
    name="astra-sim-2",
    message_pays="innermost",
    stores_and_forwards=True,
    shares_links=False,
    plays_for_shared_memory=True,
    chunking="full",
    reduces_by_token=True,
    passes_single_blocks=True,
    needs_every_algorithm=False,
    subgroup_endpoint_ps=10 * PS_PER_NS,
    runs_odd_algorithms=True,
    has_all_kinds=False,
    ends_one_by_one=True,
    min_compute_is_a_cycle=True,
    broadcasts_are_recorded=True,
    memory_is_remote=True,
    markers_use_the_network=True,
    exposes_idle_time=True,
)
RULES = {rules.name: rules for rules in (CHAKRASIM, ASTRA_SIM_1, ASTRA_SIM_2)}
