"""ASTRA-sim's answers from ASTRA-sim's files: every recorded run, by the library and the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from conftest import shared_files
from families import check_each, families
from recorded_runs import CASES, NAMES, recorded_run

from chakrasim.replay.astra_sim.conformance import EXACT, HANGS_THERE, check_case, read_cases
from chakrasim.replay.cli.main import main
from chakrasim.traces.errors import ConfigError

DOCS = Path(__file__).parents[3] / "docs/astra-sim.md"
MAX_LISTED = 10
BACKENDS = {"unaware": "congestion-unaware", "aware": "congestion-aware"}


def listed() -> set[str]:
    """The recorded runs that the documentation lists as differing on purpose."""
    return set(re.findall(r"`([A-H]\d\d_\w+)`", DOCS.read_text()))


def command_line(case: dict[str, Any], folder: Path) -> list[str]:
    """The replay of a case from its files, with ASTRA-sim's own options where it has such."""
    place = folder / case["workload"]["dir"]
    given = ["replay", str(place / case["workload"]["prefix"]), "--json", *case["cli"]]
    for option, name in (
        ("--astra-system", "system.json"),
        ("--astra-network", "network.yml"),
        ("--astra-remote-memory", "remote.json"),
        ("--astra-groups", "groups.json"),
    ):
        if (place / name).exists():
            given += [option, str(place / name)]
    return [*given, "--astra-backend", BACKENDS[case["backend"]]]


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_run_is_met_to_the_nanosecond(shared: Path, name: str) -> None:
    verdict = check_case(*recorded_run(shared, name))
    if name in listed():
        assert verdict.verdict == HANGS_THERE
        assert None not in verdict.finish_ns
    else:
        assert (verdict.verdict, verdict.detail) == (EXACT, "")


FAMILIES = families(NAMES, r"[A-Z]")


def check_it_is_met_through_the_command_line_too(shared: Path, name: str) -> None:
    case, folder = recorded_run(shared, name)
    result = CliRunner().invoke(main, command_line(case, folder))
    assert result.exit_code == 0, result.stderr
    ranks = orjson.loads(result.stdout)["ranks"]
    if name not in listed():
        assert [rank["finish_ns"] for rank in ranks] == case["observed"]["finish"]
        assert [rank["exposed_communication_ns"] for rank in ranks] == case["observed"]["exposed"]
        assert all(type(rank["finish_ns"]) is int for rank in ranks)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_met_through_the_command_line_too(shared: Path, family: str) -> None:
    check_each(FAMILIES[family], lambda name: check_it_is_met_through_the_command_line_too(shared, name))


def test_few_runs_are_listed_and_each_is_one(shared: Path) -> None:
    assert len(listed()) <= MAX_LISTED
    for name in listed():
        recorded_run(shared, name)


@pytest.mark.slow
def test_the_command_counts_what_is_exact(shared: Path) -> None:
    folders = {recorded_run(shared, name)[1] for name in NAMES}
    result = CliRunner().invoke(main, ["conformance", *map(str, folders)])
    assert result.exit_code == 0, result.output
    exact = len(CASES) - len(listed())
    assert result.stdout.splitlines()[-1] == f"{exact} of {len(CASES)} exact"


def test_a_run_that_differs_is_named_and_the_exit_code_says_so(shared: Path, tmp_path: Path) -> None:
    case = json.loads(json.dumps(recorded_run(shared, "A00_ar_1KB_ring4")[0]))
    case["observed"]["finish"][2] += 1
    (tmp_path / "cases.json").write_text(json.dumps({"cases": [case]}))
    (tmp_path / "cases").symlink_to(shared / "oracle/cases")
    result = CliRunner().invoke(main, ["conformance", str(tmp_path)])
    assert result.exit_code == 1
    assert "A00_ar_1KB_ring4: rank 2: finish 3094 ns, there 3095 ns" in result.stdout
    assert result.stdout.splitlines()[-1] == "0 of 1 exact"


@pytest.mark.parametrize("text", ["{}", "[1]", "{", '{"cases": [{"id": "x"}]}'])
def test_a_folder_without_recorded_runs_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cases.json").write_text(text)
    with pytest.raises(ConfigError, match=r"cases\.json"):
        read_cases(tmp_path)


SOUND_HERE = (
    # ASTRA-sim crashes, hangs or stops; here the input means something.
    "bug_direct_ar_heap_corruption",
    "bug_per_node_segfault",
    "graph_ag_smaller_than_splits",
    "graph_ag_zero",
    "graph_coll_barrier",
    "graph_coll_gather",
    "graph_coll_reduce",
    "graph_coll_reduce_scatter_block",
    "graph_coll_scatter",
    "graph_invalid_only_parent",
    "graph_single_member_group",
    "net_aware_2d",
    "net_aware_ring2",
    "net_aware_tiny_send_tick0",
    "sys_5d_default_involved",
    "sys_dbt_subgroup",
    "sys_endpoint_zero_tick0",
)
REFUSED_HERE = {
    "file_bad_json": "not valid JSON",
    "file_fewer_npus_than_traces": "t has 4 ranks, network 2",
    "file_more_npus_than_traces": "t has 4 ranks, network 8",
    "mem_bad_type": "memory-type: 'FOO'",
    "mem_load_without_expansion": "rank 0 node 0 is a memory node",
    "net_lowercase_topology": "did you mean 'Ring'",
    "net_nan_bw": "bandwidth: nan",
    "net_one_npu": "npus_count 1",
    "roof_no_peak": "peak-perf absent",
    "sys_active_chunks_zero": "active-chunks-per-dimension: 0",
    "sys_dbt_6npus": "double-binary-tree needs a power of two, not 6",
    "sys_hd_all_to_all": "halving-doubling can't run all-to-all",
    "sys_impl_missing": "names no algorithm for all-reduce",
    "sys_impl_unknown": "'tree'",
    "sys_splits_missing": "preferred-dataset-splits",
}

MALFORMED = sorted({*SOUND_HERE, *REFUSED_HERE, *(path.name for path in shared_files("oracle/malformed/*"))})


MALFORMED_FAMILIES = families(MALFORMED, r"[a-z]+")


def check_bad_input_ends_in_one_line_or_in_a_result(shared: Path, name: str) -> None:
    backend = "aware" if "aware" in name else "unaware"
    folder = shared / f"oracle/malformed/{name}"
    case = {"workload": {"dir": name, "prefix": "t"}, "cli": [], "backend": backend}
    result = CliRunner().invoke(main, command_line(case, folder.parent))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.exit_code in (0, 2)
    if result.exit_code == 2:
        assert re.fullmatch(r"chakrasim: error: .*\n", result.stderr)
        assert result.stdout == ""
        assert re.search(REFUSED_HERE.get(name, ""), result.stderr)
    assert name not in (SOUND_HERE if result.exit_code == 2 else REFUSED_HERE)


@pytest.mark.parametrize("family", MALFORMED_FAMILIES)
def test_bad_input_ends_in_one_line_or_in_a_result(shared: Path, family: str) -> None:
    check_each(
        MALFORMED_FAMILIES[family], lambda name: check_bad_input_ends_in_one_line_or_in_a_result(shared, name)
    )
