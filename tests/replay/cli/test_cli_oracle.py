"""`replay` on a shared collection of Chakra workloads: sound ones replay, wrong ones are refused."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from conftest import shared_files
from families import check_each, families

from chakrasim.replay.cli.main import main

REFUSED = {
    "file_empty_et": r"t\.3\.et: the file is empty",
    "file_et_metadata_only": r"t\.3\.et: .* no nodes",
    "file_random_bytes": r"t\.3\.et: .*not a Chakra execution graph",
    "file_truncated_header": r"t\.3\.et: .* cut",
    "file_truncated_last_node_rank0": r"t\.0\.et: .* cut",
    "file_truncated_last_node_rank3": r"t\.3\.et: .* cut",
    "graph_comm_size_double": r"t\.0\.et: rank 0 node 0: comm_size is 1048576\.0",
    "graph_comm_size_negative": r"t\.0\.et: rank 0 node 0: comm_size is -4",
    "graph_cycle_partial": r"t\.0\.et: rank 0 node 2: .*cycle: 2 .* → 1 .* → 2",
    "graph_cycle_whole": r"t\.0\.et: rank 0 node 1: .*cycle: 1 .* → 0 .* → 1",
    "graph_self_dep": r"t\.0\.et: rank 0 node 1: .*cycle: 1 .* → 1",
    "graph_duplicate_id": r"t\.0\.et: rank 0 node 0: .* more than one node",
    "graph_involved_not_list": r"t\.0\.et: rank 0 node 0: involved_dim is not a list of true and false",
    "graph_missing_comm_size": r"t\.0\.et: rank 0 node 0: .* without comm_size",
    "graph_missing_comm_type": r"t\.0\.et: rank 0 node 0: .* without comm_type",
    "graph_not_a_member": r"t\.2\.et: rank 2 node 0: .* its ranks are \[0, 1\]",
    "graph_pg_name_text": r"t\.0\.et: rank 0 node 0: .* process group 'dp', which doesn't exist",
    "graph_pg_name_unknown": r"t\.0\.et: rank 0 node 0: .* process group '7', which doesn't exist",
    "graph_unknown_dep": r"t\.0\.et: rank 0 node 1: .* needs node 99",
    "peer_dst_out_of_range": r"t\.0\.et: rank 0 node 0: .* rank 9",
    "peer_missing_recv": r"t\.0\.et: rank 0 node 0: .* send .* without its receive",
    "peer_missing_send": r"t\.1\.et: rank 1 node 0: .* receive .* without its send",
    "peer_negative_tag": r"t\.0\.et: rank 0 node 0: comm_tag is -1",
    "peer_order_mismatch_diff_size": r"t\.1\.et: rank 1 node 0: is collective 0 of group 'world'",
    "peer_p2p_size_mismatch": r"t\.0\.et: rank 0 node 0: .* without its receive; rank 1 has one .* 1,048,576",
    "peer_p2p_tag_mismatch": r"t\.0\.et: rank 0 node 0: .* without its receive; rank 1 has one .* tag 2",
    "peer_rank_skips_coll": r"t\.3\.et: rank 3: issues 0 collectives of group 'world'",
    "peer_send_to_self": r"t\.0\.et: rank 0 node 0: .* its own rank",
    "peer_size_mismatch_coll": r"t\.2\.et: rank 2 node 0: .* 2,097,152 bytes; on rank 0",
    "peer_src_not_self": r"t\.0\.et: rank 0 node 0: comm_src is 2",
    "peer_type_mismatch_coll": r"t\.1\.et: rank 1 node 0: .* all-reduce .* on rank 0 .* all-gather",
}
"""Wrong graphs, and what must be said of them. In all others, what is wrong is no graph but a network, system
or memory description, which this command doesn't read, or nothing is wrong:

* `file_missing_et`: three ranks whose files never speak of a fourth.
* `file_{missing,more,fewer,bad,nested,unknown}*`: sound graphs.
* `graph_coll_*`, `graph_comm_on_cpu`, `graph_ag_*`, `graph_involved_none`, `graph_metadata_node`,
  `graph_invalid_*`, `graph_group_id_*`, `graph_pg_name_int`, `graph_single_member_group`: rightful input.
* `peer_no_tag` (tag 0), `peer_zero_bytes`, `peer_rendezvous_4GiB`: rightful.
* `peer_order_mismatch_same_size`: two all-reduces of one size in opposite order; nothing tells them apart.
"""
MALFORMED = sorted({*REFUSED, *(path.name for path in shared_files("oracle/malformed/*"))})
CASES = [path.name for path in shared_files("oracle/cases/*")]
TAKE_NO_TIME = {"G01_roofline_rounding", "G05_duration_zero_is_one_tick"}
"""No recorded durations and no communication."""


def replay(folder: Path) -> Result:
    """Replays the workload `t` of a folder, with its process groups where it has such."""
    groups = folder / "groups.json"
    given = ["--groups", str(groups)] if groups.exists() else []
    return CliRunner().invoke(main, ["replay", str(folder / "t"), "--json", *given])


MALFORMED_FAMILIES = families(MALFORMED, r"[a-z]+")


def check_a_malformed_workload_is_refused_or_replayed(shared: Path, name: str) -> None:
    result = replay(shared / f"oracle/malformed/{name}")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if name in REFUSED:
        assert (result.exit_code, result.stdout) == (2, "")
        assert re.match(r"chakrasim: error: .*\n\Z", result.stderr)
        assert name in result.stderr
        assert re.search(REFUSED[name], result.stderr)
    else:
        assert result.exit_code == 0, result.stderr
        assert "deadlock" not in orjson.loads(result.stdout)


@pytest.mark.parametrize("family", MALFORMED_FAMILIES)
def test_a_malformed_workload_is_refused_or_replayed(shared: Path, family: str) -> None:
    check_each(
        MALFORMED_FAMILIES[family],
        lambda name: check_a_malformed_workload_is_refused_or_replayed(shared, name),
    )


FAMILIES = families(CASES, r"[A-Z]")


def check_a_sound_workload_replays(shared: Path, name: str) -> None:
    folder = shared / f"oracle/cases/{name}"
    result = replay(folder)
    assert result.exit_code == 0, result.stderr
    document = orjson.loads(result.stdout)
    files = list(folder.glob("t.*.et"))
    assert [rank["rank"] for rank in document["ranks"]] == list(range(len(files)))
    assert document["step_time_ns"] == max(rank["finish_ns"] for rank in document["ranks"])
    assert document["step_time_ns"] > 0 or name in TAKE_NO_TIME


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_workload_replays(shared: Path, family: str) -> None:
    check_each(FAMILIES[family], lambda name: check_a_sound_workload_replays(shared, name))
