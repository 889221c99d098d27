"""The network file (JSON) of ASTRA-sim 1.0.

Bandwidth is in units of 2**30 bytes a second, of one link. A message has several links to itself: all those
to a switch or to the same neighbour, and in a ring those of both directions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import orjson

from chakrasim.replay.astra_sim.words import GIB, TOPOLOGIES, unknown_word
from chakrasim.replay.machine.files.fields import MAX_PS, MAX_VALUE, Block, finite, is_whole
from chakrasim.replay.machine.machine import Dimension
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.units import PS_PER_NS

NETWORK_LISTS = ("topologies-per-dim", "units-count", "links-count", "link-latency", "link-bandwidth")
NETWORK_KEYS = ("dimensions-count", *NETWORK_LISTS)
NETWORK_EXTRAS = ("nic-latency", "router-latency", "hbm-latency", "hbm-bandwidth", "hbm-scale")
NETWORK_LABELS = ("topology-name", "dimension-type")
"""Keys that other releases of ASTRA-sim 1.0 read; without effect."""


class Version1Network:
    """The content of a network file. Lists have one entry a dimension."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{path}: not valid JSON: {error}") from None
        if not isinstance(content, dict):
            self.fail(f"expected an object with {', '.join(NETWORK_KEYS)}")
        self.content: dict[str, Any] = content
        Block(content, str(path)).keys(NETWORK_KEYS, (*NETWORK_EXTRAS, *NETWORK_LABELS))
        self.count = content["dimensions-count"]
        if not is_whole(self.count, 1):
            self.fail(f"dimensions-count is {self.count!r}; expected a whole number of 1 or more")
        for key in (*NETWORK_LISTS, *(key for key in NETWORK_EXTRAS if key in content)):
            value = content[key]
            if not isinstance(value, list) or len(value) != self.count:
                self.fail(f"{key} is {value!r}; expected a list of {self.count}, one a dimension")
        idle = [key for key in NETWORK_LABELS if key in content]
        self.notes = [f"{path}: no effect: {', '.join(idle)}"] if idle else []

    def fail(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.path}: {message}")

    def whole(self, key: str, index: int) -> int:
        value = self.content[key][index]
        if not is_whole(value, 1):
            self.fail(f"{key} of dimension {index} is {value!r}; expected a whole number of 1 or more")
        return int(value)

    def number(self, key: str, index: int, maximum: float = MAX_VALUE / GIB) -> float:
        """A number from 0 to `maximum`; 0 where an optional key is absent."""
        value = self.content[key][index] if key in self.content else 0
        number = finite(value)
        if number is None or number < 0:
            self.fail(f"{key} of dimension {index} is {value!r}; expected a number of 0 or more")
        if number > maximum:
            self.fail(f"{key} of dimension {index} is {value!r}; expected a number of at most {maximum:g}")
        return number

    def time_ns(self, key: str, index: int) -> float:
        """A time in ns, of at most 1,000 s."""
        return self.number(key, index, MAX_PS / PS_PER_NS)

    def dimension(self, index: int) -> Dimension:
        """One dimension, before any split."""
        name = self.content["topologies-per-dim"][index]
        if name not in TOPOLOGIES:
            self.fail(f"topologies-per-dim of dimension {index} is {unknown_word(str(name), TOPOLOGIES)}")
        size = self.whole("units-count", index)
        links = self.whole("links-count", index)
        bandwidth = self.number("link-bandwidth", index)
        if bandwidth == 0:
            self.fail(f"link-bandwidth of dimension {index} is 0; expected a number above 0")
        multiplier = links
        if name == "Ring":
            multiplier = links - links % 2
            least = 2
        elif name == "FullyConnected":
            least = max(1, size - 1)
            multiplier = links // least
        if multiplier == 0:
            self.fail(f"links-count of dimension {index} is {links}; {name} of {size} needs {least} or more")
        if self.number("hbm-scale", index):
            self.fail(f"hbm-scale of dimension {index} is not 0; the memory model is not supported")
        return Dimension(
            name=f"{TOPOLOGIES[name].replace('_', ' ')} {index}",
            topology=TOPOLOGIES[name],
            size=size,
            bandwidth_Bps=multiplier * bandwidth * GIB,
            latency_ps=self.latency_ps(index, name, size),
        )

    def latency_ps(self, index: int, topology: str, size: int) -> int:
        """Latency of one link, with what adapters and the router add to a message."""
        link_ns = self.time_ns("link-latency", index)
        added_ns = 2 * self.time_ns("nic-latency", index)
        if topology == "Switch":
            added_ns += self.time_ns("router-latency", index)
        if added_ns == 0:
            return round(link_ns * PS_PER_NS)
        # These are per message: a link's latency can only stand for them where all messages cross as many
        # links. The original rounds down after each part, so that only whole ones can be added beforehand.
        hops = 2 if topology == "Switch" else 1
        is_same_for_all = topology != "Ring" or size <= 3
        if not is_same_for_all or not (added_ns.is_integer() and (hops * link_ns).is_integer()):
            self.fail(
                f"nic-latency or router-latency of dimension {index} is not 0; supported in whole "
                "nanoseconds, and not on a Ring of more than 3"
            )
        return round((hops * link_ns + added_ns) * PS_PER_NS / hops)
