"""Settings of all tests: the larger test data, and which `chakrasim` is tested."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, so that a failure is the change's; new ones on request. No deadline: an
# example's time depends on what else the machine does.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", print_blob=True, deadline=None)
settings.load_profile("explore" if os.environ.get("CHAKRASIM_EXPLORE") else "fixed")

ROOT = Path(__file__).resolve().parent.parent

# The repository's folders are the installed package's subpackages; found from the root they would be
# second, separate packages called `proto`, `traces`, …
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAKRASIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def shared_folder() -> Path:
    """Where larger test data lies: `CHAKRASIM_SHARED`, else `shared` beside the repository."""
    return Path(os.environ.get("CHAKRASIM_SHARED", ROOT.parent / "shared"))


SIDES = ("device", "host")
_RANKS = {"real_traces/megatron_tp2_v100": 2, "real_traces/megatron_tp8_a100": 8}
_RANKS |= {f"own_traces/out_{name}": 4 for name in ("colls", "ddp", "fsdp2", "fsdp2_tp", "pp", "pp_batch")}
"""Folders that are read as a whole, and of how many ranks they hold a trace of host and device each."""


class SharedFolder(type(Path())):  # type: ignore[misc]  # pathlib chooses the class by the platform
    """Folder of larger test data, all or part of it: asking for a path that isn't there skips the test."""

    def __truediv__(self, name: str | Path) -> Path:
        """A file or folder below it, as an ordinary path."""
        path = Path(self, name)
        parts = [path / f"{side}.{n}.json.gz" for n in range(_RANKS.get(str(name), 0)) for side in SIDES]
        for needed in (path, *parts):
            if not needed.exists():
                pytest.skip(f"no shared test data at {needed} (set CHAKRASIM_SHARED)")
        return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of larger test data."""
    return SharedFolder(shared_folder())


def shared_files(pattern: str) -> list[Path]:
    """Paths below the shared folder, relative to it, for parametrised tests.

    Where there are none, the pattern itself: a path that isn't there either, for which the test is skipped.
    """
    folder = shared_folder()
    return sorted(path.relative_to(folder) for path in folder.glob(pattern)) or [Path(pattern)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that read the shared data, by themselves or through a fixture."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared_data)
