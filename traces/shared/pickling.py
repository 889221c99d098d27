"""Pickles of dataclasses without what they have worked out on the way."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class FieldsOnly:
    """Base of dataclasses whose pickles and copies hold their fields, and no cached properties."""

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
