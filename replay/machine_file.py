"""Reading a machine file: units in the keys, no defaults for physics, and every mistake named."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from chakrasim.replay.collectives import ALGORITHMS
from chakrasim.replay.machine import TOPOLOGIES, Accelerator, Dimension, Machine, RemoteMemory
from chakrasim.traces.errors import ConfigError, UnknownName, nearest
from chakrasim.traces.graph import CommKind
from chakrasim.traces.units import PS_PER_NS, PS_PER_US

GIGA = 1e9
KINDS = {kind.label: kind for kind in CommKind}


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice, which YAML itself lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if str(key) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(str(key))
        return super().construct_mapping(node, deep)


def read_machine(path: Path) -> Machine:
    """Read and check a machine file.

    Raises ConfigError with the file, the place in it, what was expected and what came.
    """
    try:
        content = yaml.load(path.read_bytes(), Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML: {text}") from None
    file = _Block(content, str(path), "the file")
    file.keys(("name", "source", "accelerator", "network", "collectives"), ("cycle_ps", "remote_memory"))
    dimensions = _dimensions(file)
    return Machine(
        name=file.text("name"),
        source=file.text("source"),
        accelerator=_accelerator(file.block("accelerator")),
        dimensions=dimensions,
        algorithms=_algorithms(file.block("collectives"), dimensions),
        cycle_ps=file.whole("cycle_ps", least=1) if "cycle_ps" in file.content else 1,
        remote_memory=_remote_memory(file) if "remote_memory" in file.content else None,
    )


def _accelerator(block: _Block) -> Accelerator:
    block.keys(
        ("name", "source", "peak_TFLOPs", "memory_GBps", "memory_GB", "launch_overhead_us"),
    )
    block.text("source")
    peaks = block.block("peak_TFLOPs")
    if not peaks.content:
        peaks.fail("has no data types; expected for example {bf16: 312, fp32: 19.5}")
    return Accelerator(
        name=block.text("name"),
        peak_flops={str(dtype): peaks.positive(dtype) * 1e12 for dtype in peaks.content},
        memory_Bps=block.positive("memory_GBps") * GIGA,
        memory_bytes=int(block.positive("memory_GB") * GIGA),
        launch_overhead_ps=round(block.number("launch_overhead_us") * PS_PER_US),
    )


def _dimensions(file: _Block) -> tuple[Dimension, ...]:
    entries = file.content["network"]
    if not isinstance(entries, list) or not entries:
        file.fail(f"network is {entries!r}; expected a list of dimensions, the innermost first")
    dimensions = []
    for index, entry in enumerate(entries):
        block = _Block(entry, file.source, f"network dimension {index}")
        block.keys(("name", "source", "topology", "size", "bandwidth_GBps", "latency_ns"))
        block.text("source")
        is_last = index == len(entries) - 1
        if block.content["size"] == "any" and not is_last:
            block.fail("has 'size: any'; only the last dimension can grow with the workload")
        dimensions.append(
            Dimension(
                name=block.text("name"),
                topology=block.choice("topology", TOPOLOGIES),
                size=None if block.content["size"] == "any" else block.whole("size", least=1),
                bandwidth_Bps=block.positive("bandwidth_GBps") * GIGA,
                latency_ps=round(block.number("latency_ns") * PS_PER_NS),
            )
        )
    return tuple(dimensions)


def _algorithms(block: _Block, dimensions: tuple[Dimension, ...]) -> dict[CommKind, tuple[str, ...]]:
    block.keys(("default",), tuple(KINDS))
    chosen = {}
    for label in block.content:
        value = block.content[label]
        names = value if isinstance(value, list) else [value] * len(dimensions)
        if len(names) != len(dimensions):
            block.fail(f"{label} names {len(names)} algorithms; the network has {len(dimensions)} dimensions")
        for name in names:
            if name not in ALGORITHMS:
                block.fail(f"{label}: {UnknownName('collective algorithm', str(name), ALGORITHMS)}")
        chosen[label] = tuple(names)
    return {kind: chosen.get(label, chosen["default"]) for label, kind in KINDS.items()}


def _remote_memory(file: _Block) -> RemoteMemory:
    block = file.block("remote_memory")
    block.keys(("source", "bandwidth_GBps", "latency_ns"))
    block.text("source")
    return RemoteMemory(
        bandwidth_Bps=block.positive("bandwidth_GBps") * GIGA,
        latency_ps=round(block.number("latency_ns") * PS_PER_NS),
    )


class _Block:
    """A mapping of the file, with the words to say where in the file it stands."""

    def __init__(self, content: Any, source: str, where: str) -> None:
        self.source, self.where = source, where
        if not isinstance(content, dict):
            self.fail(f"is {_shown(content)}; expected keys and values")
        self.content: dict[Any, Any] = content

    def fail(self, message: str) -> None:
        raise ConfigError(f"{self.source}: {self.where} {message}")

    def keys(self, required: Collection[str], optional: Collection[str] = ()) -> None:
        """Refuse unknown keys, with the nearest known one, and missing ones."""
        known = [*required, *optional]
        for key in self.content:
            if key not in known:
                guess = nearest(str(key), known)
                hint = f"did you mean {guess!r}?" if guess else f"known are {', '.join(known)}"
                self.fail(f"has an unknown key {key!r}; {hint}")
        for key in required:
            if key not in self.content:
                self.fail(f"lacks the key {key!r}")

    def block(self, key: str) -> _Block:
        return _Block(self.content[key], self.source, key)

    def text(self, key: str) -> str:
        value = self.content[key]
        if not isinstance(value, str) or not value.strip():
            self.fail(f"has {key}: {_shown(value)}; expected a text")
        return str(value)

    def choice(self, key: str, choices: Collection[str]) -> str:
        value = self.content[key]
        if value not in choices:
            guess = nearest(str(value), choices)
            hint = f"did you mean {guess!r}? " if guess else ""
            self.fail(f"has {key}: {_shown(value)}; {hint}expected one of {', '.join(choices)}")
        return str(value)

    def number(self, key: str) -> float:
        """A finite number of 0 or more."""
        value = self.content[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < 0:
            self.fail(f"has {key}: {_shown(value)}; expected a number of 0 or more")
        return float(value)

    def positive(self, key: str) -> float:
        if self.number(key) == 0:
            self.fail(f"has {key}: 0; expected a number above 0")
        return self.number(key)

    def whole(self, key: str, least: int) -> int:
        value = self.content[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self.fail(f"has {key}: {_shown(value)}; expected a whole number of {least} or more")
        return int(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
