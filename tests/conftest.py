"""What every test file shares: where test data lies, and which `chakrasim` is tested."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, so that a failure is the change's; new ones on request. No deadline: how long an
# example takes is up to what else the machine does.
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


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of larger test data; the test is skipped where it isn't there."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no shared test data at {folder} (set CHAKRASIM_SHARED)")
    return folder


def shared_files(pattern: str) -> list[Path]:
    """Paths below the shared folder, relative to it, for parametrised tests; [] where it isn't there."""
    folder = shared_folder()
    return sorted(path.relative_to(folder) for path in folder.glob(pattern)) if folder.is_dir() else []
