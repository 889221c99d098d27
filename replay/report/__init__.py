"""Views of results, traces and machines: tables for people, JSON for programs, timelines.

Touch it to show something in another way. It works nothing out: figures come from `analysis/`, times from
`results/`, neither of which knows this room.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chakrasim.replay.report.result.document import json_document, ranks_dataframe

__all__ = ["json_document", "ranks_dataframe"]


def __getattr__(name: str) -> Any:
    # Imported when used, so that a table of machines loads nothing of results.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.result.document"), name)
