"""The reader of imports, on a tree of four modules."""

from __future__ import annotations

from pathlib import Path

import import_graph
import pytest

SOURCES = {
    "__init__": "",
    "main": "from house.low import base\nimport house.high.top",
    "low/__init__": "",
    "low/base": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.high.top import Top",
    "high/__init__": "",
    "high/top": "import json\n\ndef late():\n    from ..low.base import base\n    from . import side",
    "high/side": "from house.low import base as name",
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name, text in SOURCES.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return import_graph.modules(tmp_path, "house")


def test_every_import_counts_wherever_it_stands(files: dict[str, Path]) -> None:
    assert {name: to for name, to in import_graph.imports(files).items() if to} == {
        "house.main": {"house.low.base", "house.high.top"},
        "house.low.base": {"house.high.top"},
        "house.high.top": {"house.low.base", "house.high.side"},
        "house.high.side": {"house.low.base"},
    }


def test_modules_that_import_each_other_are_a_circle(files: dict[str, Path]) -> None:
    (circle,) = import_graph.circles(import_graph.imports(files))
    assert circle == ["house.high.side", "house.high.top", "house.low.base"]


def test_rooms_import_what_their_modules_do(files: dict[str, Path]) -> None:
    found = import_graph.rooms(import_graph.imports(files), files)
    assert found == {
        "house": {"house.low", "house.high"},
        "house.low": {"house.high"},
        "house.high": {"house.low"},
    }
    assert import_graph.upward(found, ["house.low", "house.high", "house"]) == [("house.low", "house.high")]
    assert import_graph.upward(found, ["house.high", "house.low", "house"]) == [("house.high", "house.low")]
