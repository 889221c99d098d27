"""Work of a kernel, and the widths of data types that its bytes are counted with."""

from __future__ import annotations

from dataclasses import dataclass

BYTES = {"fp32": 4.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "mxfp8": 1.0, "nvfp4": 0.5}
"""Bytes of an element, by data type."""


@dataclass(frozen=True)
class Work:
    """Floating-point operations and memory traffic of a kernel."""

    ops: int
    size_bytes: int
    """Bytes read and written."""
