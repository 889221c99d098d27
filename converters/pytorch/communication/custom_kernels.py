"""Communication kernels of neither NCCL nor RCCL, by a table of patterns that users can extend.

A table is a YAML list of rows; the first row whose `kernel` is found in a kernel's name is taken:

    - kernel: my_all_gather_kernel      # regular expression
      kind: all-gather                  # or all-reduce, reduce-scatter, all-to-all, broadcast, reduce, …
      operators:                        # where the size stands: operator around the launch: input tensor
        "mylib::all_gather": 0
      group: tp                         # name or description of a recorded process group; default: world

Without `operators`, or outside of them, the size is unknown: the kernel keeps its recorded duration. Rows of
a user's file go before the built-in ones (`communication_kernels.yaml`). Sizes count as NCCL's do: the
elements of the input tensor, for an all-gather the rank's own shard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from chakrasim.converters.pytorch.communication.comm_sources import Facts, tensors
from chakrasim.converters.pytorch.communication.enclosing_ops import Source
from chakrasim.converters.pytorch.read.spellings import describes_communication, dtype_of
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import CommKind, NodeKind

BUILT_IN = Path(__file__).with_name("communication_kernels.yaml")
WORLD = "world"
_KINDS = {kind.label: kind for kind in CommKind}
_TEMPLATE = re.compile(r"<\s*(?:\([^)]*\)\s*)?(?:__nv_|__hip_)?([A-Za-z0-9_:]+)")


@dataclass(frozen=True)
class Row:
    """One kind of kernel."""

    kernel: re.Pattern[str]
    kind: CommKind
    operators: tuple[tuple[re.Pattern[str], int], ...] = ()
    """Name of an operator around the launch, and which of its arguments is the kernel's input."""
    group: str = WORLD

    def facts(self, name: str, around: Iterable[Source]) -> Facts:
        """Facts about a kernel of this name from the operators around its launch, given outermost first."""
        facts = Facts(kind=(NodeKind.COLL, self.kind))
        for source in reversed(list(around)):
            for operator, position in self.operators:
                if operator.search(source.name):
                    count, dtype, _ = tensors(source.arguments, position)
                    facts.fill(Facts(in_count=count, dtype=dtype))
        template = _TEMPLATE.search(name)
        facts.fill(Facts(dtype=dtype_of(template.group(1)) if template else None))
        return facts


@dataclass(frozen=True)
class KernelTable:
    """Rows, those that go first before the others."""

    rows: tuple[Row, ...] = ()
    _found: dict[str, Row | None] = field(default_factory=dict, repr=False, compare=False)

    def match(self, name: str) -> Row | None:
        """The first row for a kernel's name; None if there is none. Each name is searched once."""
        if name not in self._found:
            self._found[name] = next((row for row in self.rows if row.kernel.search(name)), None)
        return self._found[name]

    def describes(self, name: str) -> bool:
        """Tell operators whose arguments are needed: those about communication, and those that rows name."""
        return describes_communication(name) or any(
            operator.search(name) for row in self.rows for operator, _ in row.operators
        )


def load_kernel_table(path: Path | None = None) -> KernelTable:
    """The built-in rows, after those of a user's file. Raises ConfigError for a mistake in the file."""
    own = _read_rows(path) if path is not None else ()
    return KernelTable((*own, *_built_in()))


@cache
def _built_in() -> tuple[Row, ...]:
    return _read_rows(BUILT_IN)


def _read_rows(path: Path) -> tuple[Row, ...]:
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, list):
        raise ConfigError(f"{path}: expected a list of rows, each with at least kernel: and kind:")
    return tuple(_read_row(f"{path}: row {number}", entry) for number, entry in enumerate(document, 1))


def _read_row(where: str, entry: Any) -> Row:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected keys kernel, kind, operators, group; found {entry!r}")
    known = ("kernel", "kind", "operators", "group")
    for key in entry:
        if key not in known:
            raise ConfigError(f"{where}: {UnknownName('key', str(key), known)}")
    for key in ("kernel", "kind"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise ConfigError(f"{where}: needs {key}: with a text")
    kind = entry["kind"]
    if kind not in _KINDS:
        raise ConfigError(f"{where}: {UnknownName('kind of collective', kind, _KINDS)}")
    operators = entry.get("operators") or {}
    if not isinstance(operators, dict):
        raise ConfigError(f"{where}: operators: expected names with the position of the input tensor")
    found = []
    for name, position in operators.items():
        if isinstance(position, bool) or not isinstance(position, int) or position < 0:
            raise ConfigError(
                f"{where}: operators: {name}: expected the input's position, found {position!r}"
            )
        found.append((_pattern(where, str(name)), position))
    group = entry.get("group", WORLD)
    if not isinstance(group, (str, int)) or isinstance(group, bool) or group == "":
        raise ConfigError(f"{where}: group: expected world or the name of a process group, found {group!r}")
    return Row(_pattern(where, entry["kernel"]), _KINDS[kind], tuple(found), str(group))


def _pattern(where: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"{where}: {text!r} isn't a regular expression: {error}") from None
