"""The shape of the package: what is installed, and who may import whom."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import import_graph
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("proto", "traces", "converters", "replay")
MAY_IMPORT = {
    "proto": {"proto"},
    "traces": {"proto", "traces"},
    "converters": {"proto", "traces", "converters"},
    "replay": {"proto", "traces", "replay"},
}
KNOWS_BOTH = "replay/cli/"
"""The command line, which joins converters and replay."""


def sources() -> list[Path]:
    return sorted(
        path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "samples" not in path.parts
    )


def imported_folders(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "chakrasim":
                names = [f"chakrasim.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("chakrasim.")}
    return found


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {
        "chakrasim." + str(init.parent.relative_to(ROOT)).replace("/", ".")
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert listed == {"chakrasim", *folders}


def test_imports_go_one_way() -> None:
    for path in sources():
        name = str(path.relative_to(ROOT))
        allowed = set(FOLDERS) if name.startswith(KNOWS_BOTH) else MAY_IMPORT[path.relative_to(ROOT).parts[0]]
        assert imported_folders(path) <= allowed, name


def test_the_root_holds_the_package_itself_and_no_module_of_it() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


ORDERS: dict[str, tuple[str, ...]] = {
    "traces": (
        *("errors", "units", "shared", "graph", "names", "attributes", "builder", "testing", "memory"),
        *("order", "view", "workload", "matching", "check", "writing", "reading", "io", "workload_files"),
        *("", "edits", "astra_export", "doctor", "samples"),
    ),
    "converters": ("", "interface", "chakra", "text", "synthetic", "pytorch", "registry"),
    "converters/pytorch": (
        *("read", "host", "device", "communication", "graph", "host_traces", "convert", "", "format"),
    ),
    "converters/synthetic": (
        "",
        "limits",
        "op_cost",
        "graph_writer",
        "micro",
        "vision",
        "dlrm",
        "transformer",
    ),
    "replay": (
        *("", "plugins", "machine", "engine", "transport", "collectives", "compute", "network", "symmetry"),
        *("results", "costs", "simulate", "analysis", "calibration", "astra_sim", "report", "testing", "cli"),
    ),
}
"""For a package the order of its rooms, named below it ("" is the package itself): each may import those
before it."""
MAX_FILES = 14
"""Modules of a room, its `__init__` included: as many as one takes in at a glance."""
ROOMS = sorted({str(path.parent.relative_to(ROOT)) for path in sources()})


@pytest.mark.parametrize("folder", ROOMS)
def test_no_room_is_crowded(folder: str) -> None:
    assert len(list((ROOT / folder).glob("*.py"))) <= MAX_FILES


@pytest.mark.parametrize("folder", ROOMS)
def test_a_room_says_what_may_be_touched_and_what_it_does_not_know(folder: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len(re.findall(r"[.:](?:\s|$)", text)) > 1


@pytest.mark.parametrize("package", ORDERS)
def test_no_room_imports_one_above_it(package: str) -> None:
    def room(module: str) -> str:
        below = module.removeprefix(package.replace("/", ".")).lstrip(".")
        return below.partition(".")[0]  # folders within a room belong to it

    arrows, order = imports_of(package), ORDERS[package]
    assert {room(module) for module in arrows} == set(order)
    pairs = ((module, target) for module, targets in arrows.items() for target in targets)
    assert [pair for pair in pairs if order.index(room(pair[0])) < order.index(room(pair[1]))] == []


@pytest.mark.parametrize("package", ORDERS)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    assert import_graph.circles(imports_of(package)) == []


def imports_of(package: str) -> import_graph.Arrows:
    """Imports of a folder's modules among each other; they name the installed package."""
    files = import_graph.modules(ROOT / package, f"chakrasim.{package.replace('/', '.')}")
    arrows = import_graph.imports(files)
    return {
        name.removeprefix("chakrasim."): {to.removeprefix("chakrasim.") for to in targets}
        for name, targets in arrows.items()
    }


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = ("numpy", "numba", "networkx", "google.protobuf", "rich")
    program = f"import sys, chakrasim.replay.cli.main; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
