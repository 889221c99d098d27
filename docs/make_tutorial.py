"""Runs what `docs/tutorial.md` shows and draws its pictures from that: `python docs/make_tutorial.py`.

`tests/replay/astra_sim/test_tutorial_page.py` uses the same functions to hold the page against what its
commands print.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, log2, log10, prod
from pathlib import Path
from xml.sax.saxutils import escape

from click.testing import CliRunner

from chakrasim.replay.cli.main import main

PAGE = Path(__file__).with_name("tutorial.md")
Row = tuple[float, ...]


# What the page says, and running it


@dataclass(frozen=True)
class Example:
    """A shell block of the page and what the page says it prints."""

    script: str
    shown: tuple[str, ...]
    """Lines of the text block after it."""
    table: tuple[tuple[str, ...], ...]
    """Cells of the table after it, without its head; the first is a label."""
    picture: str | None
    """File name of the picture after it."""

    def rows(self, printed: str) -> dict[str, Row]:
        """The numbers that the block printed last, under the labels of its table."""
        lines = printed.splitlines()[-len(self.table) :] if self.table else []
        numbers = (tuple(float(word) for word in line.split()) for line in lines)
        return {cells[0]: row for cells, row in zip(self.table, numbers, strict=True)}


def read_examples(page: str) -> list[Example]:
    """The page's shell blocks in their order."""
    found = []
    for script, rest in re.findall(r"^```bash\n(.*?)^```\n(.*?)(?=^```bash\n|\Z)", page, re.M | re.S):
        shown = re.search(r"^```text\n(.*?)^```\n", rest, re.M | re.S)
        table = re.search(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", rest, re.M)
        rows = table[1].splitlines() if table else []
        cells = tuple(tuple(cell.strip(" `") for cell in row.strip("|").split("|")) for row in rows)
        picture = re.search(r"^!\[.*\]\((.*\.svg)\)$", rest, re.M)
        lines = tuple(shown[1].splitlines()) if shown else ()
        found.append(Example(script, lines, cells, picture[1] if picture else None))
    return found


def run_script(script: str) -> str:
    """Run a shell block in the current folder; returns what it prints.

    It knows here-documents, one level of `for`, pipes and one redirection a line. `chakrasim` runs in this
    process, which is quicker than a shell would be.
    """
    lines = iter(re.sub(r"\\\n\s*|(?<=\|)\n\s*", " ", script).splitlines())
    printed = ""
    for line in lines:
        document = re.fullmatch(r"cat > (\S+) <<'EOF'", line)
        loop = re.fullmatch(r"for (\w+) in (.*); do", line)
        if document:
            Path(document[1]).write_text("".join(f"{text}\n" for text in until("EOF", lines)))
        elif loop:
            body = list(until("done", lines))
            for value in loop[2].split():
                printed += "".join(run_line(text.replace(f"${loop[1]}", value)) for text in body)
        else:
            printed += run_line(line)
    return printed


def until(end: str, lines: Iterator[str]) -> Iterator[str]:
    """The lines up to one that is `end`, which is taken too."""
    return iter(lines.__next__, end)


def run_line(line: str) -> str:
    """Run a pipeline; returns what it prints, nothing if that goes to a file."""
    line, _, target = line.partition(" > ")
    text = ""
    for stage in line.split(" | "):
        program, *arguments = shlex.split(stage)
        if program == "chakrasim":
            result = CliRunner().invoke(main, arguments, env={"COLUMNS": "112"})
            if result.exit_code != 0:
                raise RuntimeError(f"{stage}\n{result.output}") from result.exception
            text = result.stdout
        else:
            command = [sys.executable if program == "python" else program, *arguments]
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
            text = done.stdout
    if target:
        Path(target).write_text(text)
        return ""
    return text


# Pictures

WIDTH = 760
MARGIN = 24
STYLE = """
.paper{fill:#fff} text{fill:#1f2328;font:13px system-ui,sans-serif} .small{font-size:12px}
.title{font-weight:600;font-size:15px} .value{paint-order:stroke;stroke:#fff;stroke-width:4px}
.inside{fill:#fff} .axis{stroke:#59636e} .grid{stroke:#d8dee4} .mark{stroke:#59636e;stroke-dasharray:5 4}
.compute{fill:#3b76c4} .exposed{fill:#b8651b} .curve{fill:none;stroke:#b8651b;stroke-width:2}
@media (prefers-color-scheme:dark){.paper{fill:#0d1117} text{fill:#e6edf3} .value{stroke:#0d1117}
.inside{fill:#0d1117} .axis{stroke:#9198a1} .grid{stroke:#2d333b} .mark{stroke:#9198a1}
.compute{fill:#6ca4ec} .exposed{fill:#f0a35c} .curve{stroke:#f0a35c}}"""
SERIES = {"compute": "compute", "exposed": "exposed communication"}


class Drawing:
    """An SVG picture, readable on light and dark pages: it brings its own paper."""

    def __init__(self, title: str, height: float) -> None:
        self.height = height
        self.title = title
        self.parts: list[str] = []
        self.text(MARGIN, 30, title, kind="title")

    def text(self, x: float, y: float, text: str, anchor: str = "start", kind: str = "small") -> None:
        self.parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        size = f'width="{max(width, 1):.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}/>')

    def curve(self, points: Sequence[tuple[float, float]]) -> None:
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="curve" points="{way}"/>')
        self.parts += [f'<circle class="exposed" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points]

    def legend(self, kinds: Sequence[str], right: float, y: float) -> None:
        x = right
        for kind in reversed(kinds):
            x -= 7 * len(SERIES[kind]) + 34
            self.bar(x, y - 10, 12, 12, kind)
            self.text(x + 18, y, SERIES[kind])

    def svg(self) -> str:
        size = f'viewBox="0 0 {WIDTH} {self.height:.0f}" width="{WIDTH}" height="{self.height:.0f}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
        title = f"<title>{escape(self.title)}</title>"
        paper = f'<rect class="paper" width="{WIDTH}" height="{self.height:.0f}" rx="6"/>'
        return "\n".join([head, title, f"<style>{STYLE}\n</style>", paper, *self.parts, "</svg>\n"])


def ticks(maximum: float) -> list[float]:
    """Round numbers from 0 to at least `most`, some five of them."""
    power = 10 ** floor(log10(maximum / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 6 >= maximum)
    count = next(n for n in range(1, 8) if n * step >= maximum)
    return [step * i for i in range(count + 1)]


def draw_bars(
    title: str,
    axis: str,
    bars: Sequence[tuple[str, Sequence[tuple[str, float]]]],
    mark: tuple[float, str] | None = None,
) -> str:
    """Horizontal bars, each of one or more parts: (label, [(kind, value)])."""
    left, right, top = 150, WIDTH - 90, 78 if mark or len(bars[0][1]) > 1 else 56
    bottom = top + 44 * len(bars)
    drawing = Drawing(title, bottom + 62)
    numbers = ticks(max(sum(value for _, value in parts) for _, parts in bars))
    scale = (right - left) / numbers[-1]
    for number in numbers:
        x = left + number * scale
        drawing.line(x, top, x, bottom, "grid")
        drawing.text(x, bottom + 18, f"{number:g}", "middle")
    drawing.text((left + right) / 2, bottom + 42, axis, "middle", "label")
    for row, (label, parts) in enumerate(bars):
        y = top + 44 * row + 8
        drawing.text(left - 12, y + 19, label, "end", "label")
        x = float(left)
        for kind, value in parts:
            drawing.bar(x, y, value * scale, 28, kind)
            if len(parts) > 1:
                drawing.text(x + value * scale / 2, y + 19, f"{value:.3f}", "middle", "inside")
            x += value * scale
        drawing.text(x + 8, y + 19, f"{sum(value for _, value in parts):.3f}", kind="value")
    drawing.line(left, top, left, bottom, "axis")
    if len(bars[0][1]) > 1:
        drawing.legend([kind for kind, _ in bars[0][1]], right, 58)
    if mark:
        x = left + mark[0] * scale
        drawing.line(x, top - 8, x, bottom, "mark")
        drawing.text(x, top - 14, mark[1], "middle")
    return drawing.svg()


def draw_sizes(sizes_mib: Sequence[int], times_us: Sequence[float], ranks: int, link_GBps: float) -> str:
    """Time (both axes logarithmic) and bus bandwidth over size, side by side."""
    top, bottom, plot = 84, 320, 280
    drawing = Drawing(f"All-reduce on a ring of {ranks}, by size", bottom + 62)

    def panel(left: float, heading: str, marks: Sequence[tuple[float, str]], shares: Sequence[float]) -> None:
        """Shares are heights from 0 to 1."""
        drawing.text(left, top - 18, heading, kind="label")
        for share, label in marks:
            y = bottom - share * (bottom - top)
            drawing.line(left, y, left + plot, y, "grid")
            drawing.text(left - 8, y + 4, label, "end")
        step = plot / log2(sizes_mib[-1])
        for size in sizes_mib[::2]:
            drawing.text(left + log2(size) * step, bottom + 18, f"{size}", "middle")
        drawing.line(left, bottom, left + plot, bottom, "axis")
        drawing.text(left + plot / 2, bottom + 42, "size, MiB", "middle", "label")
        points = zip(sizes_mib, shares, strict=True)
        drawing.curve([(left + log2(size) * step, bottom - y * (bottom - top)) for size, y in points])

    decades = [(power / 4 - 0.25, f"{10**power:,}") for power in range(1, 6)]
    panel(80, "time, us", decades, [(log10(time) - 1) / 4 for time in times_us])
    most = 120
    values = [bus_bandwidth_GBps(*point, ranks) / most for point in zip(sizes_mib, times_us, strict=True)]
    panel(450, "bus bandwidth, GB/s", [(n / most, f"{n}") for n in range(0, most + 1, 20)], values)
    y = bottom - link_GBps / most * (bottom - top)
    drawing.line(450, y, 450 + plot, y, "mark")
    drawing.text(450, y - 6, f"links: {link_GBps:.1f}")
    return drawing.svg()


def bus_bandwidth_GBps(size_mib: float, time_us: float, ranks: int) -> float:
    """Of an all-reduce: bytes that each rank has to send, over the time."""
    return 2 * (ranks - 1) / ranks * size_mib * 2**20 / time_us / 1e3


def draw_timeline(events: Sequence[dict]) -> str:
    """Rank 0's computing and its collectives, one line each, from a Perfetto trace."""
    spans: list[tuple[str, str, float, float]] = []
    started: dict[str, dict] = {}
    for event in events:
        if event["pid"] == 0 and event["ph"] == "B" and event["name"] not in ("loop tick", "update"):
            started[event["name"]] = event
        elif event["pid"] == 0 and event["ph"] == "E" and event["name"] in started:
            begin = started.pop(event["name"])
            spans.append((begin["cat"], event["name"], begin["ts"] / 1e3, event["ts"] / 1e3))
    collectives = [span for span in spans if span[0] == "collective"]
    left, right, top, row = 150, WIDTH - 40, 78, 20
    bottom = top + row * (len(collectives) + 1) + 10
    drawing = Drawing("VGG16 on 16 x 16 TPUs, rank 0: each layer's all-reduce from start to end", bottom + 58)
    numbers = ticks(max(span[3] for span in spans))
    scale = (right - left) / numbers[-1]
    for number in numbers:
        x = left + number * scale
        drawing.line(x, top, x, bottom, "grid")
        drawing.text(x, bottom + 18, f"{number:g}", "middle")
    drawing.text((left + right) / 2, bottom + 42, "time, ms", "middle", "label")
    drawing.text(left - 12, top + 14, "computing", "end")
    for kind, _, start, end in spans:
        if kind == "compute":
            drawing.bar(left + start * scale, top + 4, (end - start) * scale, row - 6, "compute")
    for line, (_, name, start, end) in enumerate(sorted(collectives, key=lambda span: -span[2]), 1):
        y = top + row * line + 4
        drawing.bar(left + start * scale, y, (end - start) * scale, row - 6, "exposed")
        drawing.text(left - 12, y + 11, name.split()[0], "end")
    drawing.line(left, top, left, bottom, "axis")
    computed = max(end for kind, _, _, end in spans if kind == "compute")
    x = left + computed * scale
    drawing.line(x, top - 8, x, bottom, "mark")
    drawing.text(x, top - 12, f"computing ends: {computed:.3f}", "middle")
    return drawing.svg()


def network_size(file: str) -> tuple[int, float]:
    """Ranks, and what all links of a rank together carry in one direction, bytes a second."""
    network = json.loads(Path(file).read_text())
    rates = zip(network["links-count"], network["link-bandwidth"], strict=True)
    return prod(network["units-count"]), sum(links * GiBps * 2**30 for links, GiBps in rates)


def draw(name: str, rows: dict[str, Row]) -> str:
    """One of the page's pictures, from the numbers of the table that it follows, by label."""
    label = {"dgx2": "DGX-2", "tpu": "TPU", "themis": "Themis", "fully-connected": "fully connected"}
    if name == "tutorial-sizes.svg":
        times_us = [row[0] for row in rows.values()]
        ranks, link_Bps = network_size("ring.json")
        return draw_sizes([int(size) for size in rows], times_us, ranks, link_Bps / 1e9)
    if name == "tutorial-timeline.svg":
        return draw_timeline(json.loads(Path("timeline.json").read_text())["traceEvents"])
    if name == "tutorial-topologies.svg":
        bars = [(label.get(key, key), [("exposed", row[0])]) for key, row in rows.items()]
        return draw_bars("All-reduce of 1 MiB, 8 ranks", "time, us", bars)
    if name == "tutorial-vgg16.svg":
        bars = [
            (label[key], list(zip(SERIES, (row[1] / 1e3, row[2] / 1e3), strict=True)))
            for key, row in rows.items()
        ]
        return draw_bars("Training step of VGG16, 256 ranks, data parallel", "time, ms", bars)
    if name == "tutorial-themis.svg":
        ranks, rank_Bps = network_size("three-switches.json")
        bound_ms = 2 * (ranks - 1) / ranks * 2**30 / rank_Bps * 1e3
        mark = (bound_ms, f"all links always busy: {bound_ms:.1f}")
        bars = [(label.get(key, key), [("exposed", row[0] / 1e3)]) for key, row in rows.items()]
        return draw_bars("All-reduce of 1 GiB, 8 x 8 x 8 ranks", "time, ms", bars, mark)
    raise ValueError(f"the page shows {name}, which is no picture of this file")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for example in read_examples(PAGE.read_text()):
            rows = example.rows(run_script(example.script))
            if example.picture:
                PAGE.with_name(example.picture).write_text(draw(example.picture, rows))
        os.chdir(PAGE.parent)
