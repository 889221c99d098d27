"""The `nccl` block of a machine file, read and checked, and as it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chakrasim.replay.machine.files.fields import Block, finite
from chakrasim.replay.machine.nccl_parameters import PROTOCOLS, SIMPLE, Calibration, InSwitch, Links, Protocol
from chakrasim.traces.units import PS_PER_US

MAX_ENDS = 10.0
"""Maximum of `ring_ends`: more steps than those of a small ring are a slip."""


def read_calibration(block: Block, dimensions: Sequence[str]) -> Calibration:
    """Check and read an `nccl` block for a network with dimensions of these names.

    Raises ConfigError with the file and the place in it for whatever can't be right.
    """
    block.keys(("source", "protocols", "links", "tree_efficiency", "ring_ends", "peer_us"), ("nvls",))
    block.text("source")
    if len(set(dimensions)) != len(dimensions):
        block.fail(f"tells dimensions by their names, which are {', '.join(dimensions)}; expected each once")
    protocols = _inner(block, "protocols")
    protocols.keys((SIMPLE,), PROTOCOLS)
    found = {name: _protocol(_inner(protocols, name)) for name in PROTOCOLS if protocols.has(name)}
    links = _inner(block, "links")
    links.keys(dimensions)
    return Calibration(
        protocols=found,
        links=tuple(_links(_inner(links, name), tuple(found)) for name in dimensions),
        tree_efficiency=_share(block, "tree_efficiency"),
        ring_ends=block.number("ring_ends", maximum=MAX_ENDS),
        peer_ps=block.time_ps("peer_us", PS_PER_US),
        in_switch=_in_switch(_inner(block, "nvls")) if block.has("nvls") else None,
    )


def calibration_content(calibration: Calibration, dimensions: Sequence[str], source: str) -> dict[str, Any]:
    """The block from which `read_calibration` makes this very calibration."""
    content: dict[str, Any] = {
        "source": source,
        "protocols": {name: _protocol_content(found) for name, found in calibration.protocols.items()},
        "tree_efficiency": calibration.tree_efficiency,
        "ring_ends": calibration.ring_ends,
        "peer_us": calibration.peer_ps / PS_PER_US,
        "links": {
            name: _links_content(links) for name, links in zip(dimensions, calibration.links, strict=True)
        },
    }
    if calibration.in_switch is not None:
        content["nvls"] = {
            "overhead_us": calibration.in_switch.overhead_ps / PS_PER_US,
            "efficiency": calibration.in_switch.efficiency,
        }
    return content


def _protocol(block: Block) -> Protocol:
    block.keys(("overhead_us",), ("most_GBps", "most_Bps"))
    is_limited = block.has("most_GBps") or block.has("most_Bps")
    return Protocol(
        overhead_ps=block.time_ps("overhead_us", PS_PER_US),
        most_Bps=block.rate("most_GBps", "most_Bps") if is_limited else None,
    )


def _protocol_content(protocol: Protocol) -> dict[str, float]:
    content = {"overhead_us": protocol.overhead_ps / PS_PER_US}
    if protocol.most_Bps is None:
        return content
    giga = protocol.most_Bps / 1e9
    return content | (
        {"most_GBps": giga} if giga * 1e9 == protocol.most_Bps else {"most_Bps": protocol.most_Bps}
    )


def _links(block: Block, protocols: Sequence[str]) -> Links:
    block.keys(("efficiency", "hop_us", "message_us", "message_efficiency", "exchange_efficiency"))
    hops = _inner(block, "hop_us")
    hops.keys(protocols)
    return Links(
        efficiency=_share(block, "efficiency"),
        hop_ps={name: hops.time_ps(name, PS_PER_US) for name in protocols},
        message_ps=block.time_ps("message_us", PS_PER_US),
        message_efficiency=_share(block, "message_efficiency"),
        exchange_efficiency=_share(block, "exchange_efficiency"),
    )


def _links_content(links: Links) -> dict[str, Any]:
    return {
        "efficiency": links.efficiency,
        "hop_us": {name: hop_ps / PS_PER_US for name, hop_ps in links.hop_ps.items()},
        "message_us": links.message_ps / PS_PER_US,
        "message_efficiency": links.message_efficiency,
        "exchange_efficiency": links.exchange_efficiency,
    }


def _in_switch(block: Block) -> InSwitch:
    block.keys(("overhead_us", "efficiency"))
    return InSwitch(block.time_ps("overhead_us", PS_PER_US), _share(block, "efficiency"))


def _inner(block: Block, key: str) -> Block:
    return Block(block.content[key], block.source, f"{block.where} {key}")


def _share(block: Block, key: str) -> float:
    share = finite(block.content[key])
    if share is None or not 0.001 <= share <= 1:
        block.expected(key, "a share, from 0.001 to 1")
    return share
