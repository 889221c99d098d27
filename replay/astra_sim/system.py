"""The system file of ASTRA-sim 2.x: how collectives are cut and queued, and what a rank computes with."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

from chakrasim.replay.machine.files.fields import (
    MAX_BUS_NS,
    MAX_PS,
    Block,
    found_near,
    is_whole,
)
from chakrasim.replay.machine.machine import Accelerator
from chakrasim.replay.machine.rules import ASTRA_SIM_2
from chakrasim.replay.machine.scheduling import Bus, Scheduling
from chakrasim.traces.errors import ConfigError, nearest
from chakrasim.traces.graph import CommKind
from chakrasim.traces.shared.yaml_files import read_yaml, shown
from chakrasim.traces.units import PS_PER_NS

ALGORITHMS = {
    "ring": "ring",
    "direct": "direct",
    "halvingDoubling": "halving-doubling",
    "doubleBinaryTree": "double-binary-tree",
    "oneRing": "one-ring",
    "oneDirect": "one-direct",
    "oneHalvingDoubling": "one-halving-doubling",
}
KINDS = {
    "all-reduce": (CommKind.ALL_REDUCE,),
    "all-gather": (CommKind.ALL_GATHER,),
    "reduce-scatter": (CommKind.REDUCE_SCATTER, CommKind.REDUCE_SCATTER_BLOCK),
    "all-to-all": (CommKind.ALL_TO_ALL,),
}
NATIVE, CUSTOM = "{}-implementation", "{}-implementation-custom"
BY_NODE = "per-node-custom-implementation"

POLICIES = {"LIFO": "lifo", "FIFO": "fifo", "EXPLICIT": "explicit"}
ALL_REDUCES = {"localBWAware": "hierarchical", "baseline": "per-dimension"}

BUS_KEYS = ("L", "o", "g", "G", "local-reduction-delay")
"""Parameters of the bus, without effect unless `model-shared-bus` is on."""
IDLE_KEYS = ("boost-mode", "inter-dimension-scheduling", "intra-dimension-scheduling")
"""Keys that ASTRA-sim 2 documents and doesn't use."""
OUTPUT_KEYS = ("track-local-mem", "local-mem-trace-filename")
"""Keys about files that ASTRA-sim writes."""
OPTIONAL_KEYS = (
    "scheduling-policy",
    "collective-optimization",
    "active-chunks-per-dimension",
    "endpoint-delay",
    "local-mem-bw",
    "peak-perf",
    "roofline-enabled",
    "replay-only",
    "trace-enabled",
    "model-shared-bus",
    *BUS_KEYS,
    *OUTPUT_KEYS,
    *(NATIVE.format(kind) for kind in KINDS),
    *(CUSTOM.format(kind) for kind in KINDS),
    BY_NODE,
    *IDLE_KEYS,
)

ENDPOINT_NS = 10
"""Endpoint delay of a system file that states none, ASTRA-sim's default."""
TIMING_SWITCHES = ("roofline-enabled", "replay-only")
"""Switches that change times."""
SWITCH_WORDS = {"true": True, "on": True, "yes": True, "1": True}
SWITCH_WORDS |= {"false": False, "off": False, "no": False, "0": False, "": False}


class SystemFile:
    """The content of a system file. Raises ConfigError, with file and key, for what can't be right."""

    def __init__(self, path: Path, content: Any, dimensions: int) -> None:
        self.path, self.dimensions = path, dimensions
        self.file = Block(content, str(path))
        self.file.keys(("preferred-dataset-splits",), OPTIONAL_KEYS)
        self.notes: list[str] = []
        """Sentences for people."""

    def note(self, message: str) -> None:
        self.notes.append(f"{self.path}: {message}")

    def scheduling(self, queues: int, injection_scale: float, rendezvous: bool) -> Scheduling:
        """The system layer's settings."""
        file = self.file
        memory_Bps = self._unit("local-mem-bw", 1e9)
        return Scheduling(
            rules=ASTRA_SIM_2,
            chunks=file.whole("preferred-dataset-splits", 1),
            active_chunks=file.whole("active-chunks-per-dimension", 1, default=1),
            queues=queues,
            all_reduce=self._all_reduce(),
            priority=self._policy(),
            endpoint_ps=self._endpoint_ns(injection_scale) * PS_PER_NS,
            reduction_Bps=memory_Bps or float("inf"),
            subgroup="ring",
            bus=self._bus(),
            rendezvous=rendezvous,
            custom=self._custom(),
            custom_by_node=self._custom_by_node(),
        )

    def _all_reduce(self) -> str:
        key = "collective-optimization"
        if not self.file.has(key):
            if self.dimensions > 1 and self.file.has(NATIVE.format("all-reduce")):
                self.file.fail(
                    f"lacks the key {key!r}, which all-reduces in more than one dimension need; "
                    f"expected one of {', '.join(ALL_REDUCES)}"
                )
            return "hierarchical"
        return ALL_REDUCES[self.file.choice(key, ALL_REDUCES)]

    def _policy(self) -> str:
        key = "scheduling-policy"
        return POLICIES[self.file.choice(key, POLICIES)] if self.file.has(key) else "lifo"

    def _endpoint_ns(self, injection_scale: float) -> int:
        if not self.file.has("endpoint-delay"):
            return ENDPOINT_NS
        delay_ns = int(int(self.file.number("endpoint-delay")) * injection_scale)
        if delay_ns * PS_PER_NS > MAX_PS:
            self.file.expected(
                "endpoint-delay", f"at most {MAX_PS // PS_PER_NS:,} ns, injection scale included"
            )
        return delay_ns

    def _bus(self) -> Bus | None:
        file = self.file
        bus = Bus(
            latency_ns=float(int(file.number("L", 0, MAX_BUS_NS))),
            overhead_ns=float(int(file.number("o", 0, MAX_BUS_NS))),
            gap_ns=float(int(file.number("g", 0, MAX_BUS_NS))),
            ns_per_byte=self._single_precision("G"),
            reduction_ns_per_100_bytes=file.whole("local-reduction-delay", 0, default=1),
        )
        is_on = file.content.get("model-shared-bus", 0)
        if not isinstance(is_on, int | float) or is_on not in (0, 1):
            file.expected("model-shared-bus", "0 or 1")
        if not is_on and (idle := [key for key in BUS_KEYS if file.has(key)]):
            self.note(f"{', '.join(idle)}: nothing without model-shared-bus")
        return bus if is_on else None

    def _single_precision(self, key: str) -> float:
        """A number as ASTRA-sim keeps it, in 32 bits."""
        (value,) = struct.unpack("f", struct.pack("f", self.file.number(key, 0, MAX_BUS_NS)))
        return float(value)

    def algorithms(self) -> dict[CommKind, tuple[str, ...]]:
        """Our names of the algorithms by kind, one for each leading dimension; () where none are named."""
        chosen: dict[CommKind, tuple[str, ...]] = dict.fromkeys(CommKind, ())
        short = []
        for label, kinds in KINDS.items():
            key = NATIVE.format(label)
            if self.file.has(key):
                names = self._native(key)
                chosen |= dict.fromkeys(kinds, names)
                if len(names) < self.dimensions and not names[0].startswith("one-"):
                    short.append(key)
        if short:
            self.note(
                f"{', '.join(short)}: fewer algorithms than dimensions ({self.dimensions}); only the leading "
                "dimensions are used, as in ASTRA-sim"
            )
        return chosen

    def _native(self, key: str) -> tuple[str, ...]:
        words = self.file.content[key]
        if not isinstance(words, list) or not words:
            self.file.expected(key, 'a list with one algorithm for each dimension, such as ["ring"]')
        if len(words) > self.dimensions:
            self.file.fail(
                f"has {len(words)} algorithms in {key}; expected one for each dimension of the network, "
                f"which has {self.dimensions}"
            )
        return tuple(self._algorithm(key, word) for word in words)

    def _algorithm(self, key: str, word: Any) -> str:
        match = re.fullmatch("(direct|oneDirect)([1-9][0-9]*)", str(word))
        if match is not None:
            return f"{ALGORITHMS[match[1]]}:{match[2]}"
        if word not in list(ALGORITHMS):
            guess = nearest(str(word), [*ALGORITHMS, "direct4"])
            hint = f"did you mean {guess!r}? " if guess else ""
            self.file.fail(
                f"has {shown(word)} in {key}; {hint}expected {', '.join(ALGORITHMS)}, or direct or oneDirect "
                "with a window of 1 or more, as in direct4"
            )
        return ALGORITHMS[word]

    def _custom(self) -> dict[CommKind, str]:
        custom: dict[CommKind, str] = {}
        for label, kinds in KINDS.items():
            key = CUSTOM.format(label)
            if not self.file.has(key):
                continue
            paths = self.file.content[key]
            if (
                not isinstance(paths, list)
                or len(paths) != 1
                or not isinstance(paths[0], str)
                or not paths[0]
            ):
                self.file.expected(key, "a list of one path, without the rank and .et at its end")
            path = self._found(key, paths[0])
            custom |= dict.fromkeys(kinds, path)
        return custom

    def _custom_by_node(self) -> dict[int, str]:
        if not self.file.has(BY_NODE):
            return {}
        path = Path(self._found(BY_NODE, self.file.text(BY_NODE)))
        try:
            nodes = Block(read_yaml(path), str(path))
        except OSError as error:
            raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from None
        for node in nodes.content:
            if not is_whole(node, 0):
                nodes.fail(f"has a key {shown(node)}; expected the id of a node, a whole number of 0 or more")
        return {node: self._found(f"{BY_NODE}, node {node}", nodes.text(node)) for node in nodes.content}

    def _found(self, key: str, path: str) -> str:
        """A path beside the system file, or as it is, with `<path>.<rank>.et` files or a file there."""
        found = found_near(self.path, path)
        if found is None:
            self.file.fail(
                f"has {key}: {path!r}; expected a file, or {path}.0.et and so on, and none is there"
            )
        return found

    def accelerator(self) -> Accelerator | None:
        """The accelerator, for the roofline; None unless peak and memory bandwidth are both stated."""
        peak, memory = self._unit("peak-perf", 1e12), self._unit("local-mem-bw", 1e9)
        if not peak or not memory:
            return None
        return Accelerator(
            name="as the system file says",
            peak_flops={"any": peak},
            memory_Bps=memory,
            memory_bytes=None,
            launch_overhead_ps=0,
        )

    def _unit(self, key: str, unit: float) -> float:
        """A number in units of 1, from one in units of `unit`; 0 where the key is absent."""
        return self.file.positive(key, unit) if self.file.number(key, 0) else 0.0

    def compute(self) -> str:
        """The compute model."""
        if not self.switch("roofline-enabled"):
            return "measured"
        for key in ("peak-perf", "local-mem-bw"):
            if not self.file.number(key, 0):
                came = shown(self.file.content[key]) if self.file.has(key) else "absent"
                self.file.fail(f"has roofline-enabled, and {key} {came}; expected a number above 0")
        return "roofline"

    def switch(self, key: str) -> bool:
        """The state of a switch.

        For ASTRA-sim everything but the number 0 is on, `false` included. Here `false` is off, with a note.
        """
        value = self.file.content.get(key, 0)
        if isinstance(value, int | float):
            is_on = value != 0
        elif isinstance(value, str) and value.strip().lower() in SWITCH_WORDS:
            is_on = SWITCH_WORDS[value.strip().lower()]
        else:
            self.file.expected(key, "0 or 1")
        if not is_on and isinstance(value, bool | str) and key in TIMING_SWITCHES:
            self.note(
                f"{key} {shown(value)} is off here; ASTRA-sim turns it on, only the number 0 is off there"
            )
        return is_on

    def note_idle_keys(self) -> None:
        """Add notes for known keys without effect."""
        idle = [key for key in IDLE_KEYS if self.file.has(key)]
        if idle:
            verb = "do" if len(idle) > 1 else "does"
            self.note(f"{', '.join(idle)} {verb} nothing in ASTRA-sim 2 and nothing here")
        self.switch("trace-enabled")
        if self.file.has("local-mem-trace-filename"):
            self.file.text("local-mem-trace-filename")
        if self.switch("track-local-mem"):
            self.note("track-local-mem does nothing here; memory in use is not tracked")
