"""`chakrasim calibrate`: parameters are found again from logs made with them, and bad logs are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner, Result
from nccl_test_logs import BEFORE, nccl_log

from chakrasim.replay.calibration.fit import calibrate, common, compare, parameters, rebuilt
from chakrasim.replay.calibration.nccl_tests import TESTS, Table, read_tables
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.machine.machine import Machine
from chakrasim.traces import CommKind
from chakrasim.traces.errors import ConfigError, TraceError

SIZES = tuple(2**power for power in range(10, 33))
MIB = 2**20


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def times_us(machine: Machine, test: str, hosts: int, per_host: int) -> list[tuple[int, float]]:
    """What a calibrated machine takes: rows for a log."""
    table = Table("made", TESTS[test], (per_host,) * hosts, SIZES, (1.0,) * len(SIZES))
    return list(zip(SIZES, compare(machine, table).predicted_us.tolist(), strict=True))


def write_logs(folder: Path, machine: Machine, runs: Sequence[tuple[str, int, int]]) -> list[Path]:
    paths = []
    for test, hosts, per_host in runs:
        path = folder / f"{test}_{hosts}x{per_host}.log"
        path.write_text(nccl_log(test, hosts, per_host, times_us(machine, test, hosts, per_host)))
        paths.append(path)
    return paths


def changed(machine: Machine, **factors: float) -> Machine:
    """A machine with some parameters times so much; `_` stands for a space."""
    names = [dimension.name for dimension in machine.dimensions]
    start = machine.nccl or common(machine)
    values = parameters(start, names)
    for key, factor in factors.items():
        (name,) = (name for name in values if name.replace(" ", "_") == key)
        values[name] *= factor
    return replace(machine, nccl=rebuilt(start, names, values))


class TestTheFit:
    def test_finds_the_parameters_that_made_the_logs(self, tmp_path: Path) -> None:
        truth = changed(
            load_machine("dgx-a100"),
            nvlink_efficiency=0.9,
            infiniband_efficiency=0.7,
            Simple_overhead_us=1.5,
            nvlink_hop_us_Simple=0.6,
            infiniband_hop_us_Simple=2.0,
        )
        runs = [("all_reduce", 1, 2), ("all_reduce", 1, 8), ("all_reduce", 2, 8), ("all_reduce", 8, 8)]
        runs += [("all_gather", 4, 8)]
        tables = [table for log in write_logs(tmp_path, truth, runs) for table in read_tables(log)]
        fit = calibrate(load_machine("dgx-a100"), tables)
        for residual in fit.residuals:
            assert abs(residual.errors).max() < 0.05
        expected = parameters(truth.nccl or common(truth), ["nvlink", "infiniband"])
        for name in ("infiniband efficiency", "Simple overhead_us"):
            before, after = fit.moved[name]
            assert after == pytest.approx(expected[name], rel=0.05)
            assert abs(after / before - 1) > 0.2
        # What it was not shown it predicts: other kinds, and another number of hosts.
        for test, hosts in (("all_reduce", 16), ("reduce_scatter", 8), ("broadcast", 2)):
            times = tuple(time_us for _, time_us in times_us(truth, test, hosts, 8))
            unseen = Table("unseen", TESTS[test], (8,) * hosts, SIZES, times)
            assert abs(compare(fit.machine, unseen).large()).max() < 0.1

    def test_finds_what_messages_and_all_to_alls_reach(self, tmp_path: Path) -> None:
        truth = changed(
            load_machine("hgx-h100"),
            nvlink_message_us=2.0,
            infiniband_message_efficiency=0.8,
            nvlink_exchange_efficiency=0.7,
            infiniband_exchange_efficiency=0.9,
            peer_us=3.0,
        )
        runs = [("sendrecv", 1, 2), ("sendrecv", 2, 1), ("alltoall", 1, 8), ("alltoall", 2, 8)]
        tables = [table for log in write_logs(tmp_path, truth, runs) for table in read_tables(log)]
        fit = calibrate(load_machine("hgx-h100"), tables)
        expected = parameters(truth.nccl or common(truth), ["nvlink", "infiniband"])
        for name, (_, after) in fit.moved.items():
            assert after == pytest.approx(expected[name], rel=0.05), name
        assert {name for name in expected if "message" in name or "exchange" in name} <= set(fit.moved)

    def test_keeps_what_no_log_tells_of(self, tmp_path: Path) -> None:
        machine = load_machine("dgx-a100")
        (log,) = write_logs(tmp_path, changed(machine, nvlink_efficiency=0.8), [("all_reduce", 1, 8)])
        fit = calibrate(machine, read_tables(log))
        assert "infiniband efficiency" in fit.kept
        assert not any(name.startswith("infiniband") for name in fit.moved)
        assert fit.machine.nccl is not None
        assert machine.nccl is not None
        assert fit.machine.nccl.links[1] == machine.nccl.links[1]

    def test_starts_from_nothing_known(self, tmp_path: Path) -> None:
        plain = replace(
            load_machine("dgx-a100"), nccl=None, algorithms=dict.fromkeys(CommKind, ("ring", "ring"))
        )
        truth = changed(load_machine("dgx-a100"), infiniband_efficiency=0.8)
        logs = write_logs(tmp_path, truth, [("all_reduce", 1, 4), ("all_reduce", 1, 8), ("all_reduce", 4, 8)])
        fit = calibrate(plain, [table for log in logs for table in read_tables(log)])
        assert set(fit.machine.algorithms.values()) == {("nccl", "nccl")}
        for residual in fit.residuals:
            assert abs(residual.large()).max() < 0.1

    def test_gives_the_same_twice(self, tmp_path: Path) -> None:
        truth = changed(load_machine("dgx-a100"), nvlink_efficiency=0.8)
        logs = write_logs(tmp_path, truth, [("all_reduce", 1, 2), ("all_reduce", 1, 8)])
        tables = [table for log in logs for table in read_tables(log)]
        first, again = (calibrate(load_machine("dgx-a100"), tables).moved for _ in range(2))
        assert first == again

    def test_says_where_more_was_measured_than_the_links_can(self, tmp_path: Path) -> None:
        rows = [(size, 10 + size * 1.75 / 600e3) for size in SIZES]  # 600 GB/s; a link has 300
        log = tmp_path / "all_reduce.log"
        log.write_text(nccl_log("all_reduce", 1, 8, rows))
        fit = calibrate(load_machine("dgx-a100"), read_tables(log))
        assert fit.at_limit == ("nvlink efficiency",)


class TestReading:
    def test_a_log_says_ranks_hosts_and_times(self, tmp_path: Path) -> None:
        log = tmp_path / "a.log"
        log.write_text(nccl_log("all_gather", 2, 4, [(8, 0.0), (MIB, 40.0), (2 * MIB, 50.5)]))
        (table,) = read_tables(log)
        assert (table.name, table.kind, table.ranks_by_host) == ("a", "all-gather", (4, 4))
        # A row of no time is of sizes too small for all ranks.
        assert (table.sizes_bytes, table.times_us) == ((MIB, 2 * MIB), (40.0, 50.5))

    def test_out_of_place_and_in_place_are_averaged(self, tmp_path: Path) -> None:
        log = tmp_path / "a.log"
        text = nccl_log("all_reduce", 1, 2, [(MIB, 40.0)])
        first, _, second = text.rpartition("40.00")
        log.write_text(f"{first}50.00{second}")
        (table,) = read_tables(log)
        assert table.times_us == (45.0,)

    def test_a_log_can_hold_several_runs(self, tmp_path: Path) -> None:
        log = tmp_path / "night.log"
        log.write_text(
            nccl_log("all_reduce", 1, 2, [(MIB, 40.0)]) + nccl_log("alltoall", 2, 8, [(MIB, 60.0)])
        )
        assert [(t.name, t.kind, t.ranks) for t in read_tables(log)] == [
            ("night 1", "all-reduce", 2),
            ("night 2", "all-to-all", 16),
        ]

    @pytest.mark.parametrize("prefix", ["[1,0]<stdout>:", "0: "])
    def test_prefixes_of_launchers_are_passed_over(self, prefix: str, tmp_path: Path) -> None:
        log = tmp_path / "a.log"
        text = nccl_log("broadcast", 1, 4, [(MIB, 40.0)])
        log.write_text("\n".join(prefix + line for line in text.splitlines()))
        (table,) = read_tables(log)
        assert (table.kind, table.ranks, table.times_us) == ("broadcast", 4, (40.0,))

    @pytest.mark.parametrize("test", ["all_reduce", "reduce_scatter", "broadcast", "reduce"])
    @pytest.mark.parametrize("ranks", [2, 8])
    def test_what_was_run_is_told_by_the_columns(self, test: str, ranks: int, tmp_path: Path) -> None:
        log = tmp_path / "unnamed.log"
        log.write_text(nccl_log(test, 1, ranks, [(MIB, 40.0), (1024 * MIB, 4000.0)], is_named=False))
        assert read_tables(log)[0].kind == TESTS[test]

    @pytest.mark.parametrize("test", list(TESTS))
    def test_or_by_the_name_of_the_file(self, test: str, tmp_path: Path) -> None:
        log = tmp_path / f"{test}_2nodes.log"
        log.write_text(nccl_log(test, 1, 2, [(MIB, 40.0)], is_named=False))
        assert read_tables(log)[0].kind == TESTS[test]

    def test_tables_of_ones_own(self, tmp_path: Path) -> None:
        csv, json = tmp_path / "own.csv", tmp_path / "own.json"
        rows = [
            ("all-reduce", 12, 8, MIB, 40),
            ("all-reduce", 12, 8, 2 * MIB, 50.5),
            ("send-receive", 2, 1, 8, 9),
        ]
        header = ["kind", "ranks", "ranks_per_node", "size_bytes", "time_us"]
        csv.write_text("\n".join(", ".join(map(str, row)) for row in [header, *rows]))
        json.write_bytes(orjson.dumps([dict(zip(header, row, strict=True)) for row in rows]))
        for path in (csv, json):
            first, second = read_tables(path)
            assert (first.kind, first.ranks_by_host, first.times_us) == ("all-reduce", (8, 4), (40.0, 50.5))
            assert (second.kind, second.ranks_by_host, second.sizes_bytes) == ("send-receive", (1, 1), (8,))


ROW = f"{MIB} {MIB // 4} float sum -1 40.00 26.21 26.21 0 40.00 26.21 26.21 N/A\n"
HEADER = "#  size  count  type  redop  root  time  algbw  busbw #wrong  time  algbw  busbw #wrong\n"
RANKS = "".join(f"#  Rank  {rank} Group  0 Pid  {rank} on  a device  {rank} [0x0f] x\n" for rank in (0, 1))
CSV = "kind,ranks,ranks_per_node,size_bytes,time_us\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.log", "", "a.log: no row of a table; expected the output of nccl-tests"),
        ("a.log", "Segmentation fault\n", "a.log: no row of a table"),
        ("a.log", BEFORE + RANKS + ROW, "line 4: a row before the names of the columns"),
        ("a.log", BEFORE + HEADER + ROW, "line 3: a table without the lines '#  Rank …'"),
        ("a.log", RANKS + HEADER + ROW[:-5] + "\n", "line 4: 12 columns; the header has 13"),
        ("a.log", RANKS + HEADER + ROW.replace("40.00", "4o.00"), "line 4: time is '4o.00'; expected"),
        ("a.log", RANKS + HEADER + ROW.replace("26.21 0 ", "26.21 7 "), "line 4: #wrong is 7: .* wrong sums"),
        ("a.log", RANKS.replace("Rank  1", "Rank  3") + HEADER + ROW, "line 4: 2 ranks .* not rank 1"),
        ("a.log", RANKS.split("\n")[0] + "\n" + HEADER + ROW, "line 3: a run of one rank"),
        ("a.log", RANKS.replace("1 Group  0", "1 Group  1") + HEADER + ROW, "line 4: 2 groups ran"),
        ("a.log", RANKS + HEADER + ROW.replace("sum", "none"), "which collective was run"),
        ("a.csv", "", "a.csv: line 1: column 'kind' is there 0 times"),
        ("a.csv", CSV.replace("time_us", "time_ms"), "unknown column 'time_ms'; did you mean 'time_us'"),
        ("a.csv", CSV, "a.csv: no row of a table"),
        ("a.csv", CSV + "all-reduce,8,8,1024\n", "line 2: 4 cells; the header has 5"),
        ("a.csv", CSV + "allreduce,8,8,1024,3\n", "line 2: kind is 'allreduce'; expected one of all-reduce"),
        ("a.csv", CSV + "all-reduce,1,8,1024,3\n", "line 2: ranks is 1; expected a whole number of 2"),
        ("a.csv", CSV + "all-reduce,8,8,1 kB,3\n", "line 2: size_bytes is '1 kB'; expected a whole number"),
        ("a.csv", CSV + "all-reduce,8,8,1024,nan\n", "line 2: time_us is nan; expected microseconds above 0"),
        ("a.csv", CSV + "all-reduce,99999999,8,8,1\n", "line 2: ranks is 99999999; expected at most"),
        ("a.json", "{}", "a.json: not a list"),
        ("a.json", "[7]", "entry 0: not an object"),
        ("a.json", '[{"kind": "all-reduce"}]', "entry 0: column 'ranks' is there 0 times"),
        ("a.json", "[", "a.json: not valid JSON"),
    ],
)  # fmt: skip
def test_mistakes_in_logs_are_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    done = run("calibrate", tmp_path / name, "--machine", "dgx-a100", "-o", tmp_path / "out.yaml")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    with pytest.raises((TraceError, ConfigError), match=message):
        read_tables(tmp_path / name)
    assert not (tmp_path / "out.yaml").exists()


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match=r"a\.log: not text"):
        read_tables(tmp_path / "a.log")


class TestTheCommand:
    @pytest.fixture
    def log(self, tmp_path: Path) -> Path:
        truth = changed(load_machine("dgx-a100"), nvlink_efficiency=0.8)
        (path,) = write_logs(tmp_path, truth, [("all_reduce", 1, 8)])
        return path

    def test_writes_a_machine_and_prints_every_row(self, log: Path, tmp_path: Path) -> None:
        out = tmp_path / "mine.yaml"
        done = run("calibrate", log, "--machine", "dgx-a100", "-o", out)
        assert done.exit_code == 0, done.stderr
        assert "all_reduce_1x8: all-reduce of 8 ranks on 1 host\n" in done.stdout
        assert "Errors from 1 MB on" in done.stdout
        assert f"wrote {out}" in done.stdout
        assert "no log tells of" in done.stderr
        machine = load_machine(str(out))
        assert machine.source.endswith("its nccl block fitted to all_reduce_1x8.log")
        residual = compare(machine, read_tables(log)[0])
        assert abs(residual.large()).max() < 0.03

    def test_json_says_the_same(self, log: Path, tmp_path: Path) -> None:
        done = run("calibrate", log, "--machine", "dgx-a100", "-o", tmp_path / "mine.yaml", "--json")
        document = orjson.loads(done.stdout)
        (table,) = document["tables"]
        assert (table["kind"], table["ranks"], len(table["rows"])) == ("all-reduce", 8, len(SIZES))
        errors = [abs(row["error_percent"]) for row in table["rows"] if row["size_bytes"] >= 10**6]
        assert table["worst_error_percent"] == pytest.approx(max(errors), abs=0.01)
        assert table["mean_error_percent"] == pytest.approx(np.mean(errors), abs=0.01)
        docs = (Path(__file__).parents[3] / "docs/json.md").read_text()
        for key in (*document, *table, *table["rows"][0], *document["parameters"]["nvlink efficiency"]):
            assert f"`{key}`" in docs

    def test_nothing_is_replaced_unasked(self, log: Path, tmp_path: Path) -> None:
        out = tmp_path / "mine.yaml"
        out.write_text("mine")
        done = run("calibrate", log, "--machine", "dgx-a100", "-o", out)
        assert (done.exit_code, out.read_text()) == (2, "mine")
        assert "--force replaces it" in done.stderr
        assert run("calibrate", log, "--machine", "dgx-a100", "-o", out, "--force").exit_code == 0

    @pytest.mark.parametrize(
        ("test", "hosts", "per_host", "machine", "message"),
        [
            ("all_reduce", 1, 16, "dgx-a100", "16 ranks a host; dimension 'nvlink' of 'dgx-a100' has 8"),
            ("all_reduce", 2, 1, "ethernet-10g", "2 hosts; 'ethernet-10g' has one dimension"),
        ],
    )
    def test_a_log_that_does_not_fit_on_the_machine_is_refused(
        self, test: str, hosts: int, per_host: int, machine: str, message: str, tmp_path: Path
    ) -> None:
        log = tmp_path / "a.log"
        log.write_text(nccl_log(test, hosts, per_host, [(MIB, 40.0)]))
        done = run("calibrate", log, "--machine", machine, "-o", tmp_path / "out.yaml")
        assert done.exit_code == 2
        assert message in done.stderr

    def test_a_machine_that_plays_collectives_is_refused(self, log: Path, tmp_path: Path) -> None:
        text = run("machines", "show", "ethernet-10g").stdout + "scheduling: {}\n"
        (tmp_path / "plays.yaml").write_text(text)
        done = run("calibrate", log, "--machine", tmp_path / "plays.yaml", "-o", tmp_path / "out.yaml")
        assert done.exit_code == 2
        assert "has a scheduling block" in done.stderr
