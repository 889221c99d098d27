"""Values of options: sizes, scales, kinds of collectives."""

from __future__ import annotations

import contextlib

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.replay.cli.main import main
from chakrasim.replay.cli.options.types import (
    COLLECTIVES,
    collective_option,
    join_scales,
    parse_size,
    scale_option,
)
from chakrasim.traces.errors import ConfigError
from chakrasim.traces.graph import CommKind

UNITS = {
    "": 1,
    "B": 1,
    "k": 10**3,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


@given(st.integers(0, 2**20), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * UNITS[unit]


@given(st.integers(0, 10**6), st.sampled_from(["MB", "GB", "mb", "Mb"]))
def test_a_decimal_fraction_is_exact(thousandths: int, unit: str) -> None:
    size = parse_size(f"{thousandths // 1000}.{thousandths % 1000:03}{unit}")
    assert size == thousandths * UNITS[unit.upper()] // 1000


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_size(text) < 2**63


@pytest.mark.parametrize(
    "text", ["", "MB", "64 XB", "-1", "1e6", "1.5", "0.1kiB", "5iB", "1e3MB", "10000000TB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|bytes|63 bits"):
        parse_size(text)


def test_the_labels_of_collectives_are_those_of_the_graph() -> None:
    assert [kind.label for kind in CommKind] == list(COLLECTIVES)


@pytest.mark.parametrize(("text", "kind"), [("all-reduce", 0), ("ALL_TO_ALL", 6), ("Barrier", 9)])
def test_a_collective_is_found_by_its_label(text: str, kind: int) -> None:
    assert collective_option(None, None, text) == kind


def test_an_unknown_collective_is_refused_with_the_nearest() -> None:
    with pytest.raises(click.BadParameter, match="did you mean 'all-reduce'"):
        collective_option(None, None, "allreduce")


def test_scales_tell_cpu_and_gpu_from_patterns() -> None:
    scales = join_scales(scale_option(None, None, ("cpu=2", "gpu=0.5", "*gemm*=0.25", "a=b=3")))
    assert (scales.cpu, scales.device, scales.patterns) == (2.0, 0.5, (("*gemm*", 0.25), ("a=b", 3.0)))


@pytest.mark.parametrize("text", ["gpu", "=2", "gpu=", "gpu=fast"])
def test_what_is_no_scale_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no scale"):
        scale_option(None, None, (text,))


def test_a_negative_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="-1"):
        join_scales((("gpu", -1.0),))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--num-queues-per-dim", "2"], "go with --astra-system and --astra-network"),
        (["--astra-system", "s.json"], "give --astra-system and --astra-network"),
        (["--astra-system", "s", "--astra-network", "n", "--machine", "m"], "both describe the machine"),
        (["--network", "analytical", "--astra-backend", "congestion-aware"], "both choose the network"),
        (["--groups", "g", "--astra-groups", "g"], "both name process groups"),
        (["--comm-scale", "2"], "are for text workloads"),
    ],
)
def test_options_that_don_t_go_together_are_told(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(main, ["replay", *arguments])
    assert result.exit_code == 2
    assert problem in result.stderr
