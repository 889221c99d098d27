"""Files that the documentation and docstrings name exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("converters", "proto", "replay", "traces")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FILES = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.p*") if ".git" not in path.parts]

_NAMED = re.compile(r"`((?:\w[\w.-]*/)*\w+\.(?:py|proto))`")


def missing(text: str, folder: Path) -> list[str]:
    """Python and schema files named in backticks that are not there.

    A path counts from the repository's root, from the folder that names it or from any folder above it within
    the package; a page's bare name, as in a table of a room's files, may be that of any file.
    """
    return [name for name in _NAMED.findall(text) if not _exists(name, folder)]


def _exists(name: str, folder: Path) -> bool:
    if any((place / name).is_file() for place in (folder, *folder.parents) if place.is_relative_to(ROOT)):
        return True
    return any(f"/{path}".endswith(f"/{name}") for path in FILES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_files_that_exist(page: Path) -> None:
    assert missing(page.read_text(encoding="utf-8"), page.parent) == []


def test_docstrings_name_files_that_exist() -> None:
    found = {}
    for path in SOURCES:
        # Strings under a name are documentation as well, so every string that stands alone counts.
        texts = [
            node.value.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ]
        names = missing("\n".join(texts), path.parent)
        if names:
            found[path.relative_to(ROOT).as_posix()] = names
    assert found == {}


def test_a_file_that_is_not_there_is_found() -> None:
    assert missing("`replay/no_such_file.py`, `simulate.py` and `traces/graph.py`", ROOT / "docs") == [
        "replay/no_such_file.py"
    ]
