"""Imports between the modules of a source tree, by reading them: rooms (folders), circles, direction."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import networkx as nx

Arrows = dict[str, set[str]]
"""For each module or room those that it imports."""


def modules(root: Path, package: str) -> dict[str, Path]:
    """Files by dotted name: `root` is the folder that the package's name stands for."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports(files: Mapping[str, Path]) -> Arrows:
    """Imports among these modules, wherever they stand: in functions and under TYPE_CHECKING as well."""
    arrows: Arrows = {name: set() for name in files}
    for name, path in files.items():
        parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = parent.split(".")[: len(parent.split(".")) - node.level + 1]
                    base = ".".join((*above, base)).rstrip(".")
                # `from package import module` names a module, `from module import name` one inside it.
                whole = [f"{base}.{alias.name}" for alias in node.names]
                named = [entry if entry in files else base for entry in whole]
            else:
                continue
            arrows[name] |= {entry for entry in named if entry in files and entry != name}
    return arrows


def circles(arrows: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of names that import each other, directly or by way of others."""
    graph = nx.DiGraph([(name, to) for name, targets in arrows.items() for to in targets])
    return sorted(sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1)


def rooms(arrows: Mapping[str, Iterable[str]], files: Mapping[str, Path]) -> Arrows:
    """Imports between the folders of the modules; one's own folder doesn't count."""
    found: Arrows = {room_of(name, files): set() for name in arrows}
    for name, targets in arrows.items():
        own = room_of(name, files)
        found[own] |= {room_of(to, files) for to in targets} - {own}
    return found


def room_of(name: str, files: Mapping[str, Path]) -> str:
    """The folder of a module, by its dotted name; a package's own `__init__` lies in it."""
    return name if files[name].name == "__init__.py" else name.rpartition(".")[0]


def upward(arrows: Mapping[str, Iterable[str]], order: Sequence[str]) -> list[tuple[str, str]]:
    """Imports against an order of rooms in which each may import those before it."""
    place = {name: number for number, name in enumerate(order)}
    return sorted((name, to) for name, targets in arrows.items() for to in targets if place[to] > place[name])
