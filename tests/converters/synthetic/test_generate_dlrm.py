"""Recommendation models: parameters as published, and who looks up, sends and reduces what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.converters.synthetic.dlrm.model import Dlrm, dlrm_names, dlrm_path, load_dlrm
from chakrasim.converters.synthetic.dlrm.training import DlrmPlan, generate_dlrm, shard_tables
from chakrasim.replay.cli.commands.generate.models import RECOMMENDERS
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.simulate import simulate
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.memory import allocations, held_bytes
from chakrasim.traces.workload import Workload

SMALL = Dlrm(
    "small", "made up", rows=(100, 5, 40), embedding=8, dense=3, bottom=(16, 8), top=(4, 1), pooling=(1, 2, 4)
)
CROSSED = replace(SMALL, name="crossed", cross_layers=2, cross_rank=6)


def node(graph: ExecutionGraph, name: str) -> int:
    [row] = [row for row in range(len(graph)) if graph.name(row) == name]
    return row


def cost(graph: ExecutionGraph, name: str) -> tuple[int, int]:
    """Operations and bytes."""
    row = node(graph, name)
    return int(graph.ops[row]), int(graph.tensor_bytes[row])


def parents(graph: ExecutionGraph, name: str) -> set[str]:
    return {graph.name(int(row)) for row in graph.parents_of(node(graph, name))}


def total(workload: Workload, name: str) -> tuple[int, int]:
    """Operations and bytes over all ranks that have the node."""
    found = [cost(g, name) for g in workload.graphs.values() if name in g.names]
    return sum(ops for ops, _ in found), sum(size for _, size in found)


def test_the_help_lists_the_models() -> None:
    assert list(RECOMMENDERS) == dlrm_names()


def test_parameters_are_the_published_ones() -> None:
    # "approximately 540M parameters" of which all but half a million are in tables
    kaggle = load_dlrm("criteo-kaggle")
    assert kaggle.table_parameters == 540_201_232
    assert round((kaggle.table_parameters + kaggle.dense_parameters) / 1e7) == 54
    assert yaml.safe_load(dlrm_path("criteo-kaggle").read_bytes())["published"]["parameters"] == "540M"
    # "collective size of embedding tables 91.10"
    torchrec = load_dlrm("criteo-torchrec")
    stated = yaml.safe_load(dlrm_path("criteo-torchrec").read_bytes())["published"]["table_GB"]
    assert stated <= torchrec.table_parameters * 4 / 1e9 < stated + 0.01
    # 187,767,399 rows, as MLPerf's reference reports
    assert load_dlrm("criteo-terabyte").table_parameters == 187_767_399 * 128


def test_dense_parameters_worked_by_hand() -> None:
    # Kaggle: 13-512-256-64-16, and 27 * 26 / 2 + 16 = 367-512-256-1, each with biases
    bottom = 14 * 512 + 513 * 256 + 257 * 64 + 65 * 16
    assert load_dlrm("criteo-kaggle").dense_parameters == bottom + 368 * 512 + 513 * 256 + 257
    # DCNv2: three cross layers of 3456 = 27 * 128 by 512 and back, with a bias
    model = load_dlrm("criteo-dcnv2")
    bottom = 14 * 512 + 513 * 256 + 257 * 128
    top = 3457 * 1024 + 1025 * 1024 + 1025 * 512 + 513 * 256 + 257
    assert model.dense_parameters == bottom + top + 3 * (2 * 3456 * 512 + 3456)


def test_tables_go_around_or_to_the_emptiest() -> None:
    assert shard_tables([9, 8, 7, 6, 5], 2, "round-robin") == [[0, 2, 4], [1, 3]]
    # 40 | 30 | then 20 to the second, 10 to the first, and the smallest to whom has fewer bytes
    assert shard_tables([10, 20, 30, 40, 1], 2, "greedy") == [[0, 3, 4], [1, 2]]
    assert shard_tables([5, 4], 4, "greedy") == [[0], [1], [], []]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 12))
def test_every_table_is_somewhere_once_and_greedy_balances_them(rows: list[int], ranks: int) -> None:
    for sharding in ("round-robin", "greedy"):
        shards = shard_tables(rows, ranks, sharding)
        assert sorted(table for own in shards for table in own) == list(range(len(rows)))
    # Whoever gets the last table has no more than the mean of the others (Graham, 1966).
    loads = [sum(rows[table] for table in own) for own in shards]
    assert max(loads) <= sum(rows) / ranks + max(rows) * (1 - 1 / ranks)


def test_lookups_worked_by_hand() -> None:
    # batch 12; 1 + 2 + 4 lookups a sample; rows of 8 numbers in 32 bits, three pooled ones a sample written
    graph = generate_dlrm(SMALL, DlrmPlan(global_batch=12)).graphs[0]
    assert cost(graph, "embedding.lookup") == (12 * 7 * 8, 12 * 7 * (32 + 8) + 12 * 3 * 32)
    # distinct rows: 12 of 100, all 5, and 40 of 48 lookups
    distinct = 12 + 5 + 40
    assert cost(graph, "embedding.backward") == (12 * 7 * 8, 12 * 7 * (32 + 8) + distinct * 32)
    # SGD: gradient and row read, row written; Adagrad reads and writes a state, too
    assert cost(graph, "embedding.step") == (2 * distinct * 8, 3 * distinct * 32)
    adagrad = generate_dlrm(SMALL, DlrmPlan(global_batch=12, optimizer="adagrad")).graphs[0]
    assert cost(adagrad, "embedding.step") == (6 * distinct * 8, 5 * distinct * 32)


def test_products_worked_by_hand() -> None:
    # 4 vectors of 8 a sample: 16 dot products of 16 operations; 8 + 6 numbers go into the top MLP
    graph = generate_dlrm(SMALL, DlrmPlan(global_batch=10, dtype="bf16")).graphs[0]
    assert cost(graph, "interaction.dot") == (10 * 16 * 16, 2 * 10 * (32 + 16))
    assert cost(graph, "interaction.dot.backward")[0] == 2 * 10 * 16 * 16
    assert cost(graph, "top.fc0")[0] == 2 * 10 * 14 * 4
    assert cost(graph, "top.fc0.backward")[0] == 2 * 10 * 14 * 4
    assert cost(graph, "bottom.fc0.weights") == (2 * 10 * 3 * 16, 2 * 10 * 19 + 4 * (3 * 16 + 16))
    # nothing wants the gradient of the dense features
    assert "bottom.fc0.backward" not in graph.names
    crossed = generate_dlrm(CROSSED, DlrmPlan(global_batch=10)).graphs[0]
    assert cost(crossed, "interaction.cross1.v")[0] == 2 * 10 * 32 * 6
    assert cost(crossed, "top.fc0")[0] == 2 * 10 * 32 * 4


def test_embeddings_are_exchanged_by_formula() -> None:
    plan = DlrmPlan(ranks=2, global_batch=12, dtype="fp16", sharding="round-robin")
    graphs = generate_dlrm(SMALL, plan).graphs
    # rank 0 has two tables, rank 1 one; rows of 8 numbers in 16 bits
    given_ = [int(graphs[rank].comm_bytes[node(graphs[rank], "embedding.exchange")]) for rank in (0, 1)]
    assert given_ == [12 * 2 * 16, 12 * 1 * 16]
    # backward a rank gives 6 samples of three tables, and rank 0 gets 12 of two
    back = [int(g.comm_bytes[node(g, "embedding.exchange.backward")]) for g in graphs.values()]
    assert back == [max(6 * 3, 12 * 2) * 16, max(6 * 3, 12 * 1) * 16]


def test_exchanges_run_beside_the_bottom_mlp() -> None:
    graph = generate_dlrm(SMALL, DlrmPlan(ranks=2, has_host=False)).graphs[0]
    assert parents(graph, "embedding.exchange") == {"embedding.lookup"}
    assert parents(graph, "bottom.fc0") == {"embedding.lookup"}
    assert parents(graph, "interaction.concat") == {"bottom.relu1", "embedding.exchange"}
    # exchanges keep their order
    assert parents(graph, "embedding.exchange.backward") == {
        "interaction.concat.backward",
        "embedding.exchange",
    }
    assert parents(graph, "bottom.relu1.backward") == {"interaction.concat.backward"}
    assert parents(graph, "embedding.backward") == {"bottom.fc0.weights", "embedding.exchange.backward"}
    alone = generate_dlrm(SMALL, DlrmPlan(ranks=2, has_host=False, overlaps=False)).graphs[0]
    assert parents(alone, "bottom.fc0") == {"embedding.exchange"}


@pytest.mark.parametrize("model", [SMALL, CROSSED, load_dlrm("criteo-terabyte")], ids=lambda m: m.name)
def test_every_dense_gradient_is_reduced_once(model: Dlrm) -> None:
    for graph in generate_dlrm(model, DlrmPlan(ranks=4)).graphs.values():
        is_reduce = (graph.kinds == NodeKind.COLL) & (graph.comm_kinds == CommKind.ALL_REDUCE)
        assert graph.comm_bytes[is_reduce].sum() == 4 * model.dense_parameters
        waits = {graph.name(row) for row in np.flatnonzero(is_reduce)}
        assert waits <= parents(graph, "optimizer.step")


@given(st.sampled_from([1, 2, 3, 4, 6]), st.sampled_from(["greedy", "round-robin"]))
def test_ranks_together_do_what_one_does(ranks: int, sharding: str) -> None:
    alone = generate_dlrm(SMALL, DlrmPlan(global_batch=24))
    spread = generate_dlrm(SMALL, DlrmPlan(ranks=ranks, global_batch=24, sharding=sharding))
    for name in ("embedding.lookup", "embedding.backward", "embedding.step"):
        assert total(spread, name) == total(alone, name)
    for name in ("bottom.fc0", "interaction.dot", "top.fc1.weights"):
        assert total(spread, name)[0] == total(alone, name)[0]
    given_ = sum(
        int(g.comm_bytes[node(g, "embedding.exchange")]) for g in spread.graphs.values() if ranks > 1
    )
    assert given_ == (24 * 3 * 8 * 4 if ranks > 1 else 0)


def test_a_rank_without_tables_takes_part_in_the_exchanges() -> None:
    workload = generate_dlrm(SMALL, DlrmPlan(ranks=8))
    graph = workload.graphs[7]
    assert "embedding.lookup" not in graph.names
    assert graph.comm_bytes[node(graph, "embedding.exchange")] == 0
    # all that have none share columns
    assert workload.graphs[3].ops is graph.ops
    simulate(workload, load_machine("dgx-a100"), compute="roofline")


def test_memory_that_is_held_throughout() -> None:
    dense = SMALL.dense_parameters
    graphs = generate_dlrm(SMALL, DlrmPlan(ranks=2, optimizer="adagrad", sharding="greedy")).graphs
    assert held_bytes(graphs[0]) == {
        "parameters": 4 * (dense + 100 * 8),
        "gradients": 4 * dense,
        "optimizer": 4 * (dense + 100 * 8),
    }
    assert held_bytes(graphs[1])["parameters"] == 4 * (dense + 45 * 8)
    allocated, freed = allocations(graphs[0])
    assert allocated.sum() == freed.sum() > 0


@settings(max_examples=30)
@given(
    st.sampled_from([SMALL, CROSSED]),
    st.builds(
        DlrmPlan,
        ranks=st.integers(1, 9),
        global_batch=st.sampled_from([2520, 5040]),
        sharding=st.sampled_from(["greedy", "round-robin"]),
        dtype=st.sampled_from(["fp32", "tf32", "fp16"]),
        bucket_bytes=st.sampled_from([1, 100, 2**25]),
        overlaps=st.booleans(),
        optimizer=st.sampled_from(["sgd", "adagrad", "adam"]),
        has_host=st.booleans(),
        is_inference=st.booleans(),
    ),
)
def test_every_plan_is_valid_and_replays(model: Dlrm, plan: DlrmPlan) -> None:
    workload = generate_dlrm(model, plan)
    assert check_workload(workload) == []
    for graph in workload.graphs.values():
        is_kernel = (graph.kinds == NodeKind.COMP) & ~graph.is_cpu
        assert (graph.ops[is_kernel] > 0).all()
        assert (graph.tensor_bytes[is_kernel] > 0).all()
        assert graph.ops[graph.is_cpu].sum() == (is_kernel.sum() if plan.has_host else 0)
    simulate(workload, load_machine("dgx-a100"), compute="roofline")


def test_a_large_step_takes_about_as_long_as_torchrec_measured() -> None:
    # Eight A100 with NVLink, 8192 samples each: 5,373,952 samples a second (README of TorchRec's example).
    # Nothing here is fitted to that; a factor of two either way would mean that something is counted wrongly.
    workload = generate_dlrm(load_dlrm("criteo-torchrec"), DlrmPlan(ranks=8, global_batch=65536))
    step_ns = json_document(simulate(workload, load_machine("dgx-a100"), compute="roofline"))["step_time_ns"]
    assert 0.5 < 65536 / (step_ns / 1e9) / 5_373_952 < 2


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (DlrmPlan(ranks=0), "ranks"),
        (DlrmPlan(global_batch=0), "batch"),
        (DlrmPlan(global_batch=10**14), "smaller"),
        (DlrmPlan(ranks=10**6, global_batch=10**6), "nodes"),
        (DlrmPlan(ranks=3, global_batch=100), "such as 99"),
        (DlrmPlan(sharding="rows"), "no sharding"),
        (DlrmPlan(optimizer="lion"), "no optimizer"),
        (DlrmPlan(dtype="fp4"), "no data type"),
        (DlrmPlan(bucket_bytes=0), "bucket"),
    ],
)
def test_plans_that_cant_be_are_refused(plan: DlrmPlan, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        generate_dlrm(SMALL, plan)


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: small\nsource: made up\nrows: [100, 5, 40]\npooling: [1, 2, 4]\nembedding: 8\ndense: 3\n"
        "bottom: [16, 8]\ntop: [4, 1]\n"
    )
    assert load_dlrm(str(path)) == SMALL
    path.write_text(path.read_text().replace("[1, 2, 4]", "5"))
    assert load_dlrm(str(path)).pools == (5, 5, 5)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("embedding: 8", "embeding: 8", "did you mean 'embedding'"),
        ("embedding: 8", "", "lacks the key 'embedding'"),
        ("embedding: 8", "embedding: 8.5", "expected a whole number"),
        ("embedding: 8", "embedding: 8\nembedding: 8", "given twice"),
        ("embedding: 8", "embedding: 16", "ends in 8"),
        ("rows: [100, 5]", "rows: []", "expected a list"),
        ("rows: [100, 5]", "rows: [100, 0]", "expected a list"),
        ("rows: [100, 5]", "rows: [100, 5]\npooling: [1, 2, 3]", "pooling has 3"),
        ("rows: [100, 5]", "rows: [100, 5]\ncross_layers: 3", "belong together"),
        ("rows: [100, 5]", "rows: [100, 5]\ncross_layers: 1000000\ncross_rank: 1", "from 0 to 1,000"),
        ("dense: 3", "dense: 3\ncross_layers: 1000\ncross_rank: 100000000000", "which can't be"),
        ("name: x", "name: [x]", "expected text"),
        ("name: x", "name: x: y", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_file_gets_one_line(before: str, after: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "name: x\nsource: s\nrows: [100, 5]\nembedding: 8\ndense: 3\nbottom: [16, 8]\ntop: [1]\n"
    path.write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=said) as error:
        load_dlrm(str(path))
    assert "\n" not in str(error.value)


def test_a_model_that_isnt_known_is_refused() -> None:
    with pytest.raises(UnknownName, match="criteo-kaggle"):
        load_dlrm("criteo-kagle")


def test_the_command_writes_what_can_be_replayed(tmp_path: Path) -> None:
    options = ["--ranks", "4", "--batch", "4096", "--sharding", "greedy", "-o", str(tmp_path)]
    run = CliRunner().invoke(main, ["generate", "dlrm", "--model", "criteo-kaggle", *options, "--json"])
    assert run.exit_code == 0, run.output
    assert orjson.loads(run.stdout)["world_size"] == 4
    replay = ["replay", str(tmp_path), "--machine", "dgx-a100", "--compute", "roofline", "--json"]
    run = CliRunner().invoke(main, replay)
    assert run.exit_code == 0, run.output
    plan = DlrmPlan(ranks=4, global_batch=4096, sharding="greedy")
    direct = simulate(
        generate_dlrm(load_dlrm("criteo-kaggle"), plan), load_machine("dgx-a100"), compute="roofline"
    )
    assert orjson.loads(run.stdout)["step_time_ns"] == json_document(direct)["step_time_ns"]
