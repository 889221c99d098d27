"""Text workloads of ASTRA-sim 1.0 as a trace format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chakrasim.converters.interface import ConvertContext, Option, TraceFormat
from chakrasim.traces.errors import ConfigError, nearest

if TYPE_CHECKING:
    from chakrasim.traces.workload import Workload

PASSES, COMPUTE_SCALE, COMMUNICATION_SCALE = "num-passes", "compute-scale", "comm-scale"


def _sniff(head: bytes, path: Path) -> bool:
    """A first word that is a kind of parallelism; in a `.txt`, also one that is nearly so."""
    from chakrasim.converters.text.read import KINDS

    words = head[:256].decode("ascii", "replace").split(maxsplit=1)
    if not words:
        return False
    return words[0] in KINDS or (path.suffix == ".txt" and nearest(words[0].upper(), KINDS) is not None)


def _convert(path: Path, context: ConvertContext) -> Workload:
    from chakrasim.converters.text.convert import convert_text

    if context.dimensions is None:
        raise ConfigError(
            f"{path}: a text workload of ASTRA-sim 1.0; `chakrasim convert {path} --dimensions 16x8 -o OUT` "
            "makes graphs of it, and `chakrasim replay` takes it together with a machine"
        )
    return convert_text(
        path,
        sizes=context.dimensions,
        passes=context.options.get(PASSES, 1),
        compute_scale=context.options.get(COMPUTE_SCALE, 1.0),
        communication_scale=context.options.get(COMMUNICATION_SCALE, 1.0),
    )


FORMAT = TraceFormat(
    name="astra-sim-text",
    suffixes=(".txt",),
    summary="text workloads of ASTRA-sim 1.0",
    sniff=_sniff,
    convert=_convert,
    options=(
        Option(PASSES, "Iterations.", int),
        Option(COMPUTE_SCALE, "Factor of compute times.", float),
        Option(COMMUNICATION_SCALE, "Factor of bytes.", float),
    ),
    takes_folders=False,
)
