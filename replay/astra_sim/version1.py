"""Machines from the files of ASTRA-sim 1.0: a network (JSON) and a system (text), as its tag
`tutorial-asplos2023` reads them.

Bandwidth is in units of 2**30 bytes a second, of one link. A message has several links to itself: all those
to a switch or to the same neighbour, and in a ring those of both directions. Times are whole nanoseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.rules import ASTRA_SIM_1
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.replay.machine.topology import FullyConnected, Ring
from chakrasim.traces.errors import ConfigError, nearest
from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_NS

if TYPE_CHECKING:
    from chakrasim.replay.astra_sim.files import Imported

GIB = 2**30
REDUCTION_BPS = 5e14
"""Memory bandwidth for reductions: 500,000 bytes a nanosecond, which no file states."""

TOPOLOGIES = {"Ring": "ring", "FullyConnected": "fully_connected", "Switch": "switch"}
ALGORITHMS = {"ring": "ring", "halvingDoubling": "halving-doubling", "doubleBinaryTree": "double-binary-tree"}
FLAT_ALGORITHMS = {"oneRing": "one-ring", "oneHalvingDoubling": "one-halving-doubling"}
IMPLEMENTATIONS = {
    "all-reduce": (CommKind.ALL_REDUCE, CommKind.REDUCE, CommKind.BROADCAST, CommKind.BARRIER),
    "all-gather": (CommKind.ALL_GATHER, CommKind.GATHER),
    "reduce-scatter": (CommKind.REDUCE_SCATTER, CommKind.REDUCE_SCATTER_BLOCK, CommKind.SCATTER),
    "all-to-all": (CommKind.ALL_TO_ALL,),
}
"""The kinds that run as each list of words says. ASTRA-sim 1.0 knows the first of each only."""

NETWORK_LISTS = ("topologies-per-dim", "units-count", "links-count", "link-latency", "link-bandwidth")
NETWORK_KEYS = ("dimensions-count", *NETWORK_LISTS)
NETWORK_EXTRAS = ("nic-latency", "router-latency", "hbm-latency", "hbm-bandwidth", "hbm-scale")
NETWORK_LABELS = ("topology-name", "dimension-type")
"""Read by other tags of the original, without effect."""

SYSTEM_KEYS = (
    "scheduling-policy",
    "endpoint-delay",
    "active-chunks-per-dimension",
    "preferred-dataset-splits",
    *(f"{kind}-implementation" for kind in IMPLEMENTATIONS),
    "collective-optimization",
)
BUS_KEYS = ("model-shared-bus", "L", "o", "g", "G", "local-reduction-delay")
SCHEDULING_KEYS = ("intra-dimension-scheduling", "inter-dimension-scheduling", "gap-denominator")
IDLE_SYSTEM_KEYS = ("boost-mode", "seprate-log")

PRIORITIES = {"LIFO": "lifo", "FIFO": "fifo"}
ALL_REDUCES = {"localBWAware": "hierarchical", "baseline": "per-dimension"}
QUEUE_ORDERS = {
    "FIFO": "fifo",
    "SCF": "smallest-first",
    "smallestFirst": "smallest-first",
    "RG": None,
    "lessRemainingPhaseFirst": None,
}
DIMENSION_ORDERS = {
    "baseline": "ascending",
    "ascending": "ascending",
    "themis": "themis",
    "offlineGreedy": "themis",
    "themisFlex": None,
    "offlineGreedyFlex": None,
    "roundRobin": None,
}
"""None is known to ASTRA-sim but not to us."""
GAP_DENOMINATOR = 16


def read_version1(network: Path, system: Path, *, transformer_group: int | None = None) -> Imported:
    """The machine of a network file and a system file of ASTRA-sim 1.0.

    `transformer_group` is the size of the model-parallel group of a transformer workload: a dimension in
    which such a group ends becomes two (see `transformer_split`).

    Raises ConfigError with the file and the place for what can't be right, for keys that are unknown, and for
    what is not supported: the memory model (`hbm-scale`), adapter and router latencies that no link latency
    can stand for, and the scheduling words with None above. OSError if a file can't be opened.
    """
    from chakrasim.replay.astra_sim.files import Imported

    settings = _System(system)
    fabric = _Network(network)
    words = {label: settings.words(label, fabric.count) for label in IMPLEMENTATIONS}
    dimensions = [fabric.dimension(index) for index in range(fabric.count)]
    scheduling = settings.scheduling()
    notes = [*settings.notes(), *fabric.notes]
    if transformer_group is not None:
        sizes = [dimension.size or 1 for dimension in dimensions]
        _, logical, index = transformer_split(transformer_group, sizes)
        if index is not None:
            if scheduling.dimension_order == "themis" and isinstance(
                dimensions[index].wiring, FullyConnected
            ):
                raise ConfigError(
                    f"{network}: the transformer group of {transformer_group} ends inside dimension {index} "
                    "(FullyConnected); themis is not supported there"
                )
            dimensions[index : index + 1] = _halves(dimensions[index], logical[index], logical[index + 1])
            words = {k: (*names[: index + 1], *names[index:]) for k, names in words.items()}
    algorithms = {kind: words[label] for label, kinds in IMPLEMENTATIONS.items() for kind in kinds}
    machine = Machine(
        name=network.stem,
        source=f"ASTRA-sim 1.0: {network}, {system}",
        accelerator=None,
        dimensions=tuple(dimensions),
        algorithms=algorithms,
        cycle_ps=PS_PER_NS,
        scheduling=scheduling,
    )
    return Imported(machine=machine, notes=tuple(notes), replay_only=False)


def transformer_split(group: int, sizes: Sequence[int]) -> tuple[int, tuple[int, ...], int | None]:
    """Where a model-parallel group of neighbouring ranks ends in a network.

    Returns the last dimension inside the group (-1 if none is, or if the group is larger than the network),
    the sizes of the network in which the group ends between two dimensions, and which dimension was made two
    for that, if any was; its inner part is the group's. Raises ConfigError if no split gives the group.

    >>> transformer_split(8, [4, 16])
    (1, (4, 2, 8), 1)
    >>> transformer_split(4, [4, 16])
    (0, (4, 16), None)
    """
    if group == 1:
        return -1, tuple(sizes), None
    before = 1
    for index, size in enumerate(sizes):
        if before * size == group:
            return index, tuple(sizes), None
        if before * size > group:
            inner = group // before
            if before * inner != group or size % inner:
                raise ConfigError(
                    f"a model-parallel group of {group} ranks can't be made of whole dimensions and part "
                    f"of the next: dimension {index} has {size} ranks, those before it {before} together"
                )
            return index, (*sizes[:index], inner, size // inner, *sizes[index + 1 :]), index
        before *= size
    return -1, tuple(sizes), None


def _halves(whole: Dimension, inner: int, outer: int) -> tuple[Dimension, Dimension]:
    """A dimension as two, each with all of its bandwidth; the parts of a ring keep the ring's distances."""
    ring_size, stride = (whole.size, inner) if isinstance(whole.wiring, Ring) else (None, 1)
    return (
        replace(whole, name=f"{whole.name} inner", size=inner, ring_size=ring_size),
        replace(whole, name=f"{whole.name} outer", size=outer, ring_size=ring_size, ring_stride=stride),
    )


class _Network:
    """A network file. Lists have one entry a dimension."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{path}: not valid JSON: {error}") from None
        if not isinstance(content, dict):
            self.fail(f"expected an object with {', '.join(NETWORK_KEYS)}")
        self.content: dict[str, Any] = content
        _check_keys(path, content, NETWORK_KEYS, (*NETWORK_EXTRAS, *NETWORK_LABELS))
        self.count = content["dimensions-count"]
        if not _is_whole(self.count, least=1):
            self.fail(f"dimensions-count is {self.count!r}; expected a whole number of 1 or more")
        for key in (*NETWORK_LISTS, *(key for key in NETWORK_EXTRAS if key in content)):
            value = content[key]
            if not isinstance(value, list) or len(value) != self.count:
                self.fail(f"{key} is {value!r}; expected a list of {self.count}, one a dimension")
        idle = [key for key in NETWORK_LABELS if key in content]
        self.notes = [f"{path}: no effect: {', '.join(idle)}"] if idle else []

    def fail(self, message: str) -> None:
        raise ConfigError(f"{self.path}: {message}")

    def whole(self, key: str, index: int) -> int:
        value = self.content[key][index]
        if not _is_whole(value, least=1):
            self.fail(f"{key} of dimension {index} is {value!r}; expected a whole number of 1 or more")
        return int(value)

    def number(self, key: str, index: int) -> float:
        """A finite number of 0 or more; 0 where an optional key is absent."""
        value = self.content[key][index] if key in self.content else 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            self.fail(f"{key} of dimension {index} is {value!r}; expected a number of 0 or more")
        return float(value)

    def dimension(self, index: int) -> Dimension:
        """One dimension, before any split."""
        name = self.content["topologies-per-dim"][index]
        if name not in TOPOLOGIES:
            self.fail(f"topologies-per-dim of dimension {index} is {_unknown(str(name), TOPOLOGIES)}")
        size = self.whole("units-count", index)
        links = self.whole("links-count", index)
        bandwidth = self.number("link-bandwidth", index)
        if bandwidth == 0:
            self.fail(f"link-bandwidth of dimension {index} is 0; expected a number above 0")
        multiplier = links
        if name == "Ring":
            multiplier = links - links % 2
            least = 2
        elif name == "FullyConnected":
            least = max(1, size - 1)
            multiplier = links // least
        if multiplier == 0:
            self.fail(f"links-count of dimension {index} is {links}; {name} of {size} needs {least} or more")
        if self.number("hbm-scale", index):
            self.fail(f"hbm-scale of dimension {index} is not 0; the memory model is not supported")
        return Dimension(
            name=f"{TOPOLOGIES[name].replace('_', ' ')} {index}",
            topology=TOPOLOGIES[name],
            size=size,
            bandwidth_Bps=multiplier * bandwidth * GIB,
            latency_ps=self.latency_ps(index, name, size),
        )

    def latency_ps(self, index: int, topology: str, size: int) -> int:
        """Of one link, with what adapters and the router add to a message."""
        link_ns = self.number("link-latency", index)
        added_ns = 2 * self.number("nic-latency", index)
        if topology == "Switch":
            added_ns += self.number("router-latency", index)
        if added_ns == 0:
            return round(link_ns * PS_PER_NS)
        # These are per message: a link's latency can only stand for them where all messages cross as many
        # links. The original rounds down after each part, so that only whole ones can be added beforehand.
        hops = 2 if topology == "Switch" else 1
        is_same_for_all = topology != "Ring" or size <= 3
        if not is_same_for_all or not (added_ns.is_integer() and (hops * link_ns).is_integer()):
            self.fail(
                f"nic-latency or router-latency of dimension {index} is not 0; supported in whole "
                "nanoseconds, and not on a Ring of more than 3"
            )
        return round((hops * link_ns + added_ns) * PS_PER_NS / hops)


class _System:
    """A system file: `key: value` words."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            words = path.read_bytes().decode().split()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not a text file: byte {error.start} is not UTF-8") from None
        self.values: dict[str, str] = {}
        for position in range(0, len(words), 2):
            key = words[position].removesuffix(":")
            if key == words[position]:
                self.fail(f"{key!r} stands where a key is expected; expected 'key: value' all the way")
            if position + 1 == len(words):
                self.fail(f"the file ends after {key}:; expected its value")
            if key in self.values:
                self.fail(f"the key {key!r} is given twice")
            self.values[key] = words[position + 1]
        _check_keys(path, self.values, SYSTEM_KEYS, (*SCHEDULING_KEYS, *BUS_KEYS, *IDLE_SYSTEM_KEYS))

    def fail(self, message: str) -> None:
        raise ConfigError(f"{self.path}: {message}")

    def whole(self, key: str, least: int, default: int | None = None) -> int:
        text = self.values.get(key, str(default))
        if not text.isdecimal() or int(text) < least:
            self.fail(f"{key} is {text!r}; expected a whole number of {least} or more")
        return int(text)

    def number(self, key: str) -> float:
        """A finite number of 0 or more; 0 where the key is absent."""
        text = self.values.get(key, "0")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < math.inf:
            self.fail(f"{key} is {text!r}; expected a number of 0 or more")
        return value

    def choice(self, key: str, choices: Mapping[str, str | None], default: str | None = None) -> str:
        word = self.values.get(key, default or "")
        if word not in choices:
            self.fail(f"{key} is {_unknown(word, choices)}")
        meaning = choices[word]
        if meaning is None:
            supported = [known for known, is_known in choices.items() if is_known]
            self.fail(f"{key} {word!r} is not supported; supported are {', '.join(supported)}")
        return str(meaning)

    def words(self, label: str, count: int) -> tuple[str, ...]:
        """Our names of the algorithms for one kind of collective, one a dimension."""
        key = f"{label}-implementation"
        names = tuple(self.algorithm(key, word) for word in self.values[key].split("_"))
        is_flat = [name.startswith("one-") for name in names]
        if all(is_flat) and len(set(names)) == 1:
            return names[:1] * count
        if any(is_flat):
            self.fail(f"{key} is {self.values[key]!r}; expected one flat algorithm alone, or none")
        if len(names) != count:
            self.fail(
                f"{key} is {self.values[key]!r}, {len(names)} words; the network has {count} dimensions, "
                "expected one word for each, joined by _"
            )
        return names

    def algorithm(self, key: str, word: str) -> str:
        """Our name of an algorithm."""
        known = ALGORITHMS | FLAT_ALGORITHMS
        if word in known:
            return known[word]
        match = re.fullmatch(r"(direct|oneDirect)([1-9][0-9]*)?", word)
        if match is None:
            self.fail(f"{key}: {_unknown(word, [*known, 'direct', 'direct4', 'oneDirect'])}")
            raise AssertionError
        base = "direct" if match[1] == "direct" else "one-direct"
        return f"{base}:{match[2]}" if match[2] else base

    def scheduling(self) -> Scheduling:
        """How collectives are cut and queued."""
        order = self.choice("inter-dimension-scheduling", DIMENSION_ORDERS, "baseline")
        all_reduce = self.choice("collective-optimization", ALL_REDUCES)
        denominator = self.whole("gap-denominator", 1, GAP_DENOMINATOR)
        if order == "themis" and (all_reduce != "hierarchical" or denominator != GAP_DENOMINATOR):
            self.fail(
                "inter-dimension-scheduling themis is supported with collective-optimization localBWAware "
                f"and gap-denominator {GAP_DENOMINATOR} only"
            )
        return Scheduling(
            rules=ASTRA_SIM_1,
            chunks=self.whole("preferred-dataset-splits", 1),
            active_chunks=self.whole("active-chunks-per-dimension", 1),
            all_reduce=all_reduce,
            dimension_order=order,
            queue_order=self.choice("intra-dimension-scheduling", QUEUE_ORDERS, "FIFO"),
            priority=self.choice("scheduling-policy", PRIORITIES),
            endpoint_ps=self.whole("endpoint-delay", 0) * PS_PER_NS,
            reduction_Bps=REDUCTION_BPS,
            bus=self.bus(),
        )

    def bus(self) -> Bus | None:
        if self.whole("model-shared-bus", 0, 0) != 1:
            return None
        return Bus(
            latency_ns=self.number("L"),
            overhead_ns=self.number("o"),
            gap_ns=self.number("g"),
            ns_per_byte=self.number("G"),
            reduction_ns_per_100_bytes=self.whole("local-reduction-delay", 0, 1),
        )

    def notes(self) -> list[str]:
        """What has no effect, in one line."""
        idle = [key for key in IDLE_SYSTEM_KEYS if key in self.values]
        if self.bus() is None:
            idle += [key for key in BUS_KEYS[1:] if key in self.values]
        notes = [f"{self.path}: no effect: {', '.join(idle)}"] if idle else []
        if self.bus() is not None:
            notes.append(f"{self.path}: the bus is modelled as in ASTRA-sim 2.0, unchecked against 1.0")
        return notes


def _check_keys(
    path: Path, content: Collection[str], required: Collection[str], optional: Collection[str]
) -> None:
    known = [*required, *optional]
    for key in content:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {_unknown(key, known)}")
    for key in required:
        if key not in content:
            raise ConfigError(f"{path}: lacks the key {key!r}")


def _unknown(word: str, known: Collection[str]) -> str:
    """A word and what was expected in its place."""
    guess = nearest(word, known)
    return f"{word!r}; " + (f"did you mean {guess!r}?" if guess else f"expected one of {', '.join(known)}")


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
