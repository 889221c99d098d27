"""The rooms of the PyTorch converter: each knows those before it only, and none is crowded."""

from __future__ import annotations

import ast
from pathlib import Path

ROOMS = ("read", "host", "device", "communication", "host_traces", "graph")
FOLDER = Path(__file__).resolve().parent.parent / "converters" / "pytorch"
PREFIX = "chakrasim.converters.pytorch."
MAX_FILES = 12


def rooms_imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(PREFIX):
            found.add(node.module.removeprefix(PREFIX.rstrip(".")).lstrip(".").partition(".")[0])
    return found


def test_rooms_are_all_there_are() -> None:
    assert {init.parent.name for init in FOLDER.glob("*/__init__.py")} == set(ROOMS)


def test_a_room_knows_only_the_rooms_before_it() -> None:
    for at, room in enumerate(ROOMS):
        for path in (FOLDER / room).glob("*.py"):
            assert rooms_imported(path) <= set(ROOMS[: at + 1]), path


def test_no_room_is_crowded() -> None:
    for room in ROOMS:
        assert len(list((FOLDER / room).glob("*.py"))) <= MAX_FILES, room
