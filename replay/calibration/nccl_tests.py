"""Measured collectives: logs of nccl-tests as they are printed, and tables as CSV or JSON.

Read of a log of nccl-tests (seen: 2.10 to 2.17, one process or many, also with the prefixes that `mpirun
--tag-output` and `srun --label` put before each line): the ranks and their hosts from the lines `#  Rank …`,
the rows of the table, and which collective it was. What else stands in it (NCCL's own messages, the average)
is passed over. One file can hold several runs, each begun by its line `# nThread …`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from chakrasim.replay.machine.files.fields import finite, is_whole, load_json
from chakrasim.traces.errors import TraceError, nearest
from chakrasim.traces.graph import CommKind

SEND_RECEIVE = "send-receive"
KINDS = {kind.label: kind for kind in CommKind if kind != CommKind.BARRIER}
"""By what a table calls them; beside these there is `SEND_RECEIVE`."""
TESTS = {
    "all_reduce": CommKind.ALL_REDUCE.label,
    "all_gather": CommKind.ALL_GATHER.label,
    "reduce_scatter": CommKind.REDUCE_SCATTER.label,
    "alltoall": CommKind.ALL_TO_ALL.label,
    "broadcast": CommKind.BROADCAST.label,
    "sendrecv": SEND_RECEIVE,
    "scatter": CommKind.SCATTER.label,
    "gather": CommKind.GATHER.label,
    "reduce": CommKind.REDUCE.label,
}
"""Programs of nccl-tests, `<name>_perf`; a name that is part of another comes after it."""
COLUMNS = ("kind", "ranks", "ranks_per_node", "size_bytes", "time_us")
MAX_US = 1e12

_PREFIX = re.compile(r"^(\[\d+,\d+\]<std(?:out|err)>:\s?|\s*\d+:\s)")
_RANK = re.compile(r"#\s*Rank\s+(\d+)\s+(?:Group\s+(\d+)\s+)?Pid\s+\d+\s+on\s+(\S+)\s+device\b")
_PROGRAM = re.compile(r"(\w+?)_perf\b")


@dataclass(frozen=True)
class Table:
    """Times of one collective over a range of sizes."""

    name: str
    kind: str
    """One of `KINDS`, or `SEND_RECEIVE`."""
    ranks_by_host: tuple[int, ...]
    sizes_bytes: tuple[int, ...]
    """Bytes as nccl-tests counts them: those of one rank, of all together in an all-gather or gather."""
    times_us: tuple[float, ...]

    @property
    def ranks(self) -> int:
        """All of them."""
        return sum(self.ranks_by_host)


def read_tables(path: Path) -> list[Table]:
    """The tables of a log, or of a file whose name ends in .csv or .json. O(bytes).

    A CSV has the columns `kind, ranks, ranks_per_node, size_bytes, time_us` in any order; a JSON file is a
    list of objects with these keys. Raises TraceError with the file and the line for what can't be right, and
    for a file without a single row; OSError if it can't be opened.
    """
    if path.suffix.lower() == ".json":
        tables = _tables(path, _json_rows(path))
    else:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise TraceError(f"{path}: not text; expected the output of nccl-tests, .csv or .json") from None
        tables = _tables(path, _csv_rows(path, text)) if path.suffix.lower() == ".csv" else _log(path, text)
    if not tables:
        raise TraceError(
            f"{path}: no row of a table; expected the output of nccl-tests, or a .csv or .json file with "
            f"{', '.join(COLUMNS)}"
        )
    return tables


def _fail(path: Path, line: int | str, message: str) -> NoReturn:
    where = f"line {line}" if isinstance(line, int) else line
    raise TraceError(f"{path}: {where}: {message}")


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int | str, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text))
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_columns(path, 1, header)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                _fail(path, reader.line_num, f"{len(cells)} cells; the header has {len(header)}")
            row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
            yield reader.line_num, {key: _as_number(cell) for key, cell in row.items()}
    except csv.Error as error:
        _fail(path, reader.line_num, str(error))


def _as_number(cell: str) -> int | float | str:
    for number in (int, float):
        try:
            return number(cell)
        except ValueError:
            continue
    return cell


def _json_rows(path: Path) -> Iterator[tuple[int | str, Mapping[str, Any]]]:
    content = load_json(path)
    if not isinstance(content, list):
        raise TraceError(f"{path}: not a list; expected one of objects with {', '.join(COLUMNS)}")
    for index, row in enumerate(content):
        if not isinstance(row, dict):
            _fail(path, f"entry {index}", f"not an object; expected one with {', '.join(COLUMNS)}")
        _check_columns(path, f"entry {index}", list(row))
        yield f"entry {index}", row


def _check_columns(path: Path, line: int | str, names: list[str]) -> None:
    for name in names:
        if name not in COLUMNS:
            guess = nearest(name, COLUMNS)
            hint = f"did you mean {guess!r}?" if guess else f"expected {', '.join(COLUMNS)}"
            _fail(path, line, f"unknown column {name!r}; {hint}")
    for name in COLUMNS:
        if names.count(name) != 1:
            _fail(path, line, f"column {name!r} is there {names.count(name)} times; expected it once")


def _tables(path: Path, rows: Iterator[tuple[int | str, Mapping[str, Any]]]) -> list[Table]:
    """One table for each kind and layout, in order of appearance."""
    found: dict[tuple[str, int, int], list[tuple[int, float]]] = {}
    for line, row in rows:
        kind = row["kind"]
        if kind not in (*KINDS, SEND_RECEIVE):
            _fail(path, line, f"kind is {kind!r}; expected one of {', '.join((*KINDS, SEND_RECEIVE))}")
        for key, least in (("ranks", 2), ("ranks_per_node", 1), ("size_bytes", 0)):
            if not is_whole(row[key], least):
                _fail(path, line, f"{key} is {row[key]!r}; expected a whole number of {least} or more")
        time_us = finite(row["time_us"])
        if time_us is None or not 0 < time_us <= MAX_US:
            _fail(path, line, f"time_us is {row['time_us']!r}; expected microseconds above 0")
        if row["ranks"] > 2**20:
            _fail(path, line, f"ranks is {row['ranks']}; expected at most {2**20:,}")
        key_ = str(kind), int(row["ranks"]), min(int(row["ranks_per_node"]), int(row["ranks"]))
        found.setdefault(key_, []).append((int(row["size_bytes"]), time_us))
    return [
        Table(
            f"{path.name} {kind}",
            kind,
            (per_host,) * (ranks // per_host) + ((ranks % per_host,) if ranks % per_host else ()),
            tuple(size for size, _ in measured),
            tuple(time_us for _, time_us in measured),
        )
        for (kind, ranks, per_host), measured in found.items()
    ]


@dataclass
class _Run:
    """Partly read run of nccl-tests."""

    program: str = ""
    hosts: dict[int, str] = field(default_factory=dict)
    """By rank."""
    groups: set[str] = field(default_factory=set)
    columns: list[str] = field(default_factory=list)
    rows: list[tuple[int, float]] = field(default_factory=list)
    last: tuple[str, int, float] = ("", -1, 0.0)
    """Reduction, root, and bus over algorithm bandwidth of the last row."""
    last_line: int = 0


def _log(path: Path, text: str) -> list[Table]:
    runs = [_Run()]
    next_program = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _PREFIX.sub("", raw).strip()
        named = _PROGRAM.search(line)
        if named and named[1] in TESTS:
            if runs[-1].rows:
                next_program = named[1]
            else:
                runs[-1].program = named[1]
        if line.startswith("# nThread"):
            if runs[-1].rows or runs[-1].hosts:
                runs.append(_Run(next_program))
                next_program = ""
        elif line.startswith("#"):
            _comment(line, runs[-1])
        elif line[:1].isdigit() and line.split()[0].isdigit():
            runs[-1].last_line = number
            _row(path, number, line.split(), runs[-1])
    runs = [run for run in runs if run.rows]
    name = path.stem
    return [
        _run_table(path, run, name if len(runs) == 1 else f"{name} {index + 1}")
        for index, run in enumerate(runs)
    ]


def _comment(line: str, run: _Run) -> None:
    """A line about a rank, or the names of the columns."""
    if rank := _RANK.match(line):
        run.hosts[int(rank[1])] = rank[3]
        run.groups.add(rank[2] or "0")
        return
    words = line.lstrip("#").split()
    if words[:2] == ["size", "count"] and "time" in words:
        run.columns = words


def _row(path: Path, line: int, cells: list[str], run: _Run) -> None:
    if not run.columns:
        _fail(path, line, "a row before the names of the columns (#  size  count  type …)")
    columns = run.columns
    if len(cells) != len(columns):
        _fail(path, line, f"{len(cells)} columns; the header has {len(columns)} ({' '.join(columns)})")
    times: list[float] = []
    bandwidths: dict[str, float] = {}
    for name, cell in zip(columns, cells, strict=True):
        if name == "time" and cell != "N/A":
            times.append(_measured(path, line, name, cell))
        elif name in ("algbw", "busbw"):
            bandwidths.setdefault(name, 0.0 if cell == "N/A" else _measured(path, line, name, cell))
        elif name in ("#wrong", "error") and cell != "N/A" and _measured(path, line, name, cell) > 0.01:
            _fail(path, line, f"{name} is {cell}: the run computed wrong sums; expected times of a sound one")
    stated = dict(zip(columns, cells, strict=True))
    size_bytes = int(cells[0])
    root = stated.get("root", "-1")
    algbw, busbw = bandwidths.get("algbw", 0.0), bandwidths.get("busbw", 0.0)
    run.last = (
        stated.get("redop", "none"),
        int(root) if root.lstrip("-").isdigit() else -1,
        busbw / algbw if algbw else 0.0,
    )
    # With too few bytes for all ranks, nccl-tests runs nothing and still prints a row.
    if size_bytes and times and min(times) > 0:
        run.rows.append((size_bytes, sum(times) / len(times)))


def _measured(path: Path, line: int, name: str, cell: str) -> float:
    try:
        value = finite(float(cell))
    except ValueError:
        value = None
    if value is None or not 0 <= value <= MAX_US:
        _fail(path, line, f"{name} is {cell!r}; expected a number of 0 or more")
    return value


def _run_table(path: Path, run: _Run, name: str) -> Table:
    if not run.hosts:
        _fail(
            path, run.last_line, "a table without the lines '#  Rank …' that say which rank is on which host"
        )
    if sorted(run.hosts) != list(range(len(run.hosts))):
        missing = next(rank for rank in range(len(run.hosts)) if rank not in run.hosts)
        _fail(path, run.last_line, f"{len(run.hosts)} ranks are listed, and not rank {missing}")
    if len(run.hosts) < 2:
        _fail(path, run.last_line, "a run of one rank moves nothing over the network; expected two or more")
    if len(run.groups) > 1:
        _fail(path, run.last_line, f"{len(run.groups)} groups ran side by side; expected one for all ranks")
    by_host = Counter(run.hosts[rank] for rank in sorted(run.hosts))
    return Table(
        name,
        _kind(path, run),
        tuple(by_host.values()),
        tuple(size for size, _ in run.rows),
        tuple(time_us for _, time_us in run.rows),
    )


def _kind(path: Path, run: _Run) -> str:
    """From the program's name in the log or the file's name, else from what the columns leave open."""
    if run.program:
        return TESTS[run.program]
    for test, label in TESTS.items():
        if test in path.stem.lower():
            return label
    reduction, root, factor = run.last
    n = len(run.hosts)
    if root >= 0:
        return (CommKind.BROADCAST if reduction == "none" else CommKind.REDUCE).label
    if reduction != "none" and factor:
        is_double = factor > 1.5 * (n - 1) / n
        return (CommKind.ALL_REDUCE if is_double else CommKind.REDUCE_SCATTER).label
    _fail(path, run.last_line, "which collective was run? Put its name in the file's name, as all_gather.log")
