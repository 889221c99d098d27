"""Draws the README's picture from what `chakrasim replay` prints: `python docs/make_picture.py`."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from chakrasim.replay.analysis.critical_path import critical_path, parts
from chakrasim.replay.cli.open_workload import DEFAULT_TRACE, open_workload, self_check
from chakrasim.replay.machine.load import DEFAULT_MACHINE, load_machine
from chakrasim.replay.report.result.tables import print_replay
from chakrasim.replay.simulate import simulate

PICTURE = Path(__file__).with_name("replay.svg")


def draw() -> str:
    """The picture as SVG: the same bytes whenever the same is printed."""
    workload = open_workload(DEFAULT_TRACE)
    result = simulate(workload, load_machine(DEFAULT_MACHINE))
    console = Console(record=True, width=114, file=io.StringIO())
    print_replay(
        console,
        result,
        trace=DEFAULT_TRACE,
        is_default_network=True,
        critical_path=parts(critical_path(result)),
        timeline=None,
        fidelity=self_check(workload),
    )
    drawing = console.export_svg(title="chakrasim replay --critical-path", unique_id="replay")
    # rich links to fonts on the web; any monospaced one will do.
    return re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
