"""Writing a workload's files so that they all appear, or none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chakrasim.traces.errors import ConfigError

if TYPE_CHECKING:
    from chakrasim.replay.cli.progress import Report
    from chakrasim.traces.workload import Workload


def require_free(folder: Path, prefix: str, *, force: bool) -> list[Path]:
    """The files `prefix.<rank>.et[.gz]` that already lie in the folder: none, unless `force`.

    Raises ConfigError if they are in the way, or if the folder is a file.
    """
    if "/" in prefix or not prefix:
        raise ConfigError(f"{prefix!r} can't begin a file name; --prefix takes a plain name")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; the output goes to a folder")
    present = [
        file
        for file in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if _rank_file_prefix(file) == prefix
    ]
    if present and not force:
        raise ConfigError(
            f"{folder}: already holds {present[0].name}"
            + (f" and {len(present) - 1} more of its kind" if len(present) > 1 else "")
            + "; choose another folder or --prefix, or replace them with --force"
        )
    return present


def _rank_file_prefix(file: Path) -> str | None:
    name = file.name.removesuffix(".gz")
    stem, _, rank = name.removesuffix(".et").rpartition(".")
    return stem if name.endswith(".et") and rank.isdigit() else None


def write_workload(
    workload: Workload,
    folder: Path,
    prefix: str,
    *,
    compress: bool = False,
    force: bool = False,
    progress: Report | None = None,
) -> list[Path]:
    """Write `folder/prefix.<rank>.et` for every rank and return the paths, in rank order.

    The files are written under other names and renamed when all are complete. With `force`, files of that
    prefix are replaced, those of ranks that no longer exist included.
    """
    from chakrasim.traces.workload_files import save_workload

    replaced = require_free(folder, prefix, force=force)
    existing = next(f for f in (folder, *folder.absolute().parents) if f.exists())
    with tempfile.TemporaryDirectory(prefix=".chakrasim-", dir=existing) as temporary:
        written = save_workload(workload, temporary, prefix, compress=compress, progress=progress)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / file.name for file in written]
        for file, path in zip(written, paths, strict=True):
            os.replace(file, path)
    for stale in set(replaced) - set(paths):
        stale.unlink()
    return paths


def require_writable(path: Path) -> None:
    """Raise ConfigError, before any long work, if a file can't be written there."""
    folder = path.parent
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; expected the name of a file to write")
    if not folder.is_dir():
        raise ConfigError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{path}: no permission to write in {folder}")
