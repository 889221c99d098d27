"""Machines from the files of ASTRA-sim 1.0: a network (JSON) and a system (text), as its tag
`tutorial-asplos2023` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from chakrasim.replay.astra_sim.imported import Imported
from chakrasim.replay.astra_sim.version1_network import Version1Network
from chakrasim.replay.astra_sim.version1_system import IMPLEMENTATIONS, Version1System
from chakrasim.replay.machine.machine import Dimension, Machine
from chakrasim.replay.machine.topology import FullyConnected, Ring
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.units import PS_PER_NS


def read_version1(
    network: Path, system: Path, *, injection_scale: float = 1.0, transformer_group: int | None = None
) -> Imported:
    """The machine of a network file and a system file of ASTRA-sim 1.0.

    `injection_scale` is a factor on the endpoint delay. `transformer_group` is the size of the model-parallel
    group of a transformer workload: a dimension in which such a group ends becomes two (`transformer_split`).

    Raises ConfigError with the file and the place for what can't be right, for unknown keys, and for what is
    not supported: the memory model (`hbm-scale`), adapter and router latencies that no link latency can stand
    for, and the scheduling words that are None in `version1_system.py`. OSError if a file can't be opened.
    """
    settings = Version1System(system)
    fabric = Version1Network(network)
    words = {label: settings.words(label, fabric.count) for label in IMPLEMENTATIONS}
    dimensions = [fabric.dimension(index) for index in range(fabric.count)]
    scheduling = settings.scheduling(injection_scale)
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
    """The dimensions of a network, split where a model-parallel group of neighbouring ranks ends.

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
    """The inner and the outer part of a dimension, each with all of its bandwidth.

    The parts of a ring keep the ring's distances.
    """
    ring_size, stride = (whole.size, inner) if isinstance(whole.wiring, Ring) else (None, 1)
    return (
        replace(whole, name=f"{whole.name} inner", size=inner, ring_size=ring_size),
        replace(whole, name=f"{whole.name} outer", size=outer, ring_size=ring_size, ring_stride=stride),
    )
