"""Options that take ASTRA-sim's own files, under the names that its own command line has where it has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click_option_group import OptionGroup

if TYPE_CHECKING:
    from chakrasim.replay.astra_sim.imported import Imported

BACKENDS = {"congestion-unaware": "analytical", "congestion-aware": "congestion-aware"}
"""ASTRA-sim's network backends and our networks."""

_files = OptionGroup("ASTRA-sim's files")
OPTIONS = (
    _files.option("--astra-system", metavar="FILE", help="ASTRA-sim's system file."),
    _files.option("--astra-network", metavar="FILE", help="ASTRA-sim's network file; instead of --machine."),
    _files.option("--astra-remote-memory", metavar="FILE", help="ASTRA-sim's remote-memory file."),
    _files.option("--astra-groups", metavar="FILE", help="ASTRA-sim's communicator groups."),
    _files.option(
        "--num-queues-per-dim", type=click.IntRange(min=1), default=1, help="As in ASTRA-sim 2.", metavar="N"
    ),
    _files.option("--injection-scale", type=float, default=1.0, help="As in ASTRA-sim.", metavar="F"),
    _files.option("--rendezvous-protocol", type=bool, default=False, help="As in ASTRA-sim 2."),
)

astra_backend_option = _files.option(
    "--astra-backend",
    type=click.Choice(list(BACKENDS)),
    help="ASTRA-sim's word for --network. Default: congestion-unaware.",
)


@dataclass(frozen=True)
class AstraFiles:
    """What the user gave of them."""

    system: str | None
    network: str | None
    remote_memory: str | None
    groups: str | None
    queues: int
    injection_scale: float
    rendezvous: bool

    @property
    def is_given(self) -> bool:
        """Whether a machine is to be read from them. Raises click.UsageError for options that need them."""
        given = any((self.system, self.network, self.remote_memory, self.groups))
        if not given and (self.queues, self.injection_scale, self.rendezvous) != (1, 1.0, False):
            raise click.UsageError(
                "--num-queues-per-dim, --injection-scale and --rendezvous-protocol go with --astra-system "
                "and --astra-network; a machine file says these things itself"
            )
        return given

    def read(self, transformer_group: int | None = None) -> Imported:
        """The machine that they describe. Raises ConfigError, OSError."""
        from chakrasim.replay.astra_sim.files import read_astra_sim

        if self.system is None or self.network is None:
            raise click.UsageError("ASTRA-sim's files go together: give --astra-system and --astra-network")
        return read_astra_sim(
            network=Path(self.network),
            system=Path(self.system),
            remote_memory=Path(self.remote_memory) if self.remote_memory else None,
            groups=Path(self.groups) if self.groups else None,
            queues=self.queues,
            injection_scale=self.injection_scale,
            rendezvous=self.rendezvous,
            transformer_group=transformer_group,
        )


def takes_astra_files(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one argument, `astra`."""

    @wraps(command)
    def with_files(
        *,
        astra_system: str | None,
        astra_network: str | None,
        astra_remote_memory: str | None,
        astra_groups: str | None,
        num_queues_per_dim: int,
        injection_scale: float,
        rendezvous_protocol: bool,
        **rest: Any,
    ) -> Any:
        astra = AstraFiles(
            astra_system,
            astra_network,
            astra_remote_memory,
            astra_groups,
            num_queues_per_dim,
            injection_scale,
            rendezvous_protocol,
        )
        return command(astra=astra, **rest)

    taking: Callable[..., Any] = with_files
    for option in reversed(OPTIONS):
        taking = option(taking)
    return taking
