"""The system file (text) of ASTRA-sim 1.0. Times are whole nanoseconds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from chakrasim.replay.astra_sim.words import unknown_word
from chakrasim.replay.machine.files.fields import MAX_BUS_NS, MAX_PS, MAX_WHOLE, Block
from chakrasim.replay.machine.rules import ASTRA_SIM_1
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind
from chakrasim.traces.shared.yaml_files import shown
from chakrasim.traces.units import PS_PER_NS

MAX_DIGITS = 20
"""Decimal digits that are worth reading: int64 has 19."""
REDUCTION_BPS = 5e14
"""Memory bandwidth for reductions, 500,000 bytes a nanosecond: ASTRA-sim 1.0's own constant."""

ALGORITHMS = {"ring": "ring", "halvingDoubling": "halving-doubling", "doubleBinaryTree": "double-binary-tree"}
FLAT_ALGORITHMS = {"oneRing": "one-ring", "oneHalvingDoubling": "one-halving-doubling"}
IMPLEMENTATIONS = {
    "all-reduce": (CommKind.ALL_REDUCE, CommKind.REDUCE, CommKind.BROADCAST, CommKind.BARRIER),
    "all-gather": (CommKind.ALL_GATHER, CommKind.GATHER),
    "reduce-scatter": (CommKind.REDUCE_SCATTER, CommKind.REDUCE_SCATTER_BLOCK, CommKind.SCATTER),
    "all-to-all": (CommKind.ALL_TO_ALL,),
}
"""Kinds of collective that each `-implementation` key is for; ASTRA-sim 1.0 has the first of each only."""

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
"""ASTRA-sim's words and ours; None marks one that isn't supported."""
GAP_DENOMINATOR = 16


class Version1System:
    """The content of a system file: `key: value` words."""

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
        Block(self.values, str(path)).keys(SYSTEM_KEYS, (*SCHEDULING_KEYS, *BUS_KEYS, *IDLE_SYSTEM_KEYS))

    def fail(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.path}: {message}")

    def whole(self, key: str, minimum: int, default: int | None = None, maximum: int = MAX_WHOLE) -> int:
        """A whole number; the default where the key is absent."""
        text = self.values.get(key, str(default))
        value = int(text) if text.isdecimal() and len(text) < MAX_DIGITS else -1
        if value < minimum:
            self.fail(f"{key} is {shown(text)}; expected a whole number of {minimum} or more")
        if value > maximum:
            self.fail(f"{key} is {shown(text)}; expected at most {maximum:,}")
        return value

    def bus_ns(self, key: str) -> float:
        """A parameter of the bus; 0 where the key is absent."""
        text = self.values.get(key, "0")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < math.inf:
            self.fail(f"{key} is {shown(text)}; expected a number of 0 or more")
        if value > MAX_BUS_NS:
            self.fail(f"{key} is {shown(text)}; expected at most {MAX_BUS_NS:,.0f}")
        return value

    def choice(self, key: str, choices: Mapping[str, str | None], default: str | None = None) -> str:
        """Our word for the value of a key."""
        word = self.values.get(key, default or "")
        if word not in choices:
            self.fail(f"{key} is {unknown_word(word, choices)}")
        meaning = choices[word]
        if meaning is None:
            supported = [known for known, is_known in choices.items() if is_known]
            self.fail(f"{key} {word!r} is not supported; supported are {', '.join(supported)}")
        return str(meaning)

    def words(self, label: str, count: int) -> tuple[str, ...]:
        """Our names of the algorithms for one kind of collective, one for each dimension."""
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
            self.fail(f"{key}: {unknown_word(word, [*known, 'direct', 'direct4', 'oneDirect'])}")
        base = "direct" if match[1] == "direct" else "one-direct"
        return f"{base}:{match[2]}" if match[2] else base

    def scheduling(self, injection_scale: float) -> Scheduling:
        """The system layer, with a factor on its endpoint delay."""
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
            endpoint_ps=self._endpoint_ps(injection_scale),
            reduction_Bps=REDUCTION_BPS,
            bus=self.bus(),
        )

    def _endpoint_ps(self, injection_scale: float) -> int:
        scaled_ns = self.whole("endpoint-delay", 0, maximum=MAX_PS // PS_PER_NS) * injection_scale
        if scaled_ns * PS_PER_NS > MAX_PS:
            self.fail(f"endpoint-delay is {scaled_ns:g} ns; expected at most {MAX_PS // PS_PER_NS:,}")
        return int(scaled_ns) * PS_PER_NS

    def bus(self) -> Bus | None:
        if self.whole("model-shared-bus", 0, 0) != 1:
            return None
        return Bus(
            latency_ns=self.bus_ns("L"),
            overhead_ns=self.bus_ns("o"),
            gap_ns=self.bus_ns("g"),
            ns_per_byte=self.bus_ns("G"),
            reduction_ns_per_100_bytes=self.whole("local-reduction-delay", 0, 1),
        )

    def notes(self) -> list[str]:
        """Notes on keys without effect, and on the bus."""
        idle = [key for key in IDLE_SYSTEM_KEYS if key in self.values]
        if self.bus() is None:
            idle += [key for key in BUS_KEYS[1:] if key in self.values]
        notes = [f"{self.path}: no effect: {', '.join(idle)}"] if idle else []
        if self.bus() is not None:
            notes.append(f"{self.path}: the bus is modelled as in ASTRA-sim 2.0, unchecked against 1.0")
        return notes
