"""Text workloads of ASTRA-sim 1.0 (a list of layers and a kind of parallelism) to a workload.

Touch it for another kind of parallelism. It knows no other format and no machine.
"""

from __future__ import annotations

from chakrasim.converters.text.convert import convert_text
from chakrasim.converters.text.read import KINDS, Layer, Part, TextWorkload, read_text

__all__ = ["KINDS", "Layer", "Part", "TextWorkload", "convert_text", "read_text"]
