"""Network models: what messages and collectives cost on a machine, and what happens where they meet.

Touch it to add or change a model, one file each (`interface.py` has the class to write), or what all of them
share above a transport: collectives in flight, messages of the trace, shared memory. It knows machines,
transports and collectives, and neither rank classes nor results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chakrasim.replay.plugins import NETWORKS

if TYPE_CHECKING:
    from chakrasim.replay.network.interface import NetworkModel

DEFAULT_NETWORK = "analytical"
"""The model where the user names none and nothing was recorded."""
RECORDED_NETWORK = "measured"
"""The model of an unchanged recording."""


def network_model(name: str) -> NetworkModel:
    """The network model of that name. Raises UnknownName.

    >>> network_model("analytic")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    chakrasim.traces.errors.UnknownName: no network model 'analytic'; did you mean 'analytical'? ...
    """
    model: NetworkModel = NETWORKS.get(name)()
    return model
