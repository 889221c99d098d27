"""Vision networks: parameters and operations as published, and what a step of their training holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from chakrasim.converters.synthetic.op_cost.layers import Formats, convolution
from chakrasim.converters.synthetic.vision.networks import NETWORKS, Images, network
from chakrasim.converters.synthetic.vision.training import VisionPlan, generate_vision
from chakrasim.replay.cli.commands.generate.models import NETWORKS as LISTED
from chakrasim.replay.cli.main import main
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.simulate import simulate
from chakrasim.traces.check import check_workload
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.graph import CommKind, ExecutionGraph, NodeKind
from chakrasim.traces.memory import allocations, held_bytes

PUBLISHED = {
    "resnet-50": (25_557_032, 4.089),
    "resnet-101": (44_549_160, 7.801),
    "resnet-152": (60_192_808, 11.514),
    "vgg-16": (138_357_544, 15.470),
    "vgg-19": (143_667_240, 19.632),
    "vit-b-16": (86_567_656, 17.564),
    "vit-b-32": (88_224_232, 4.409),
    "vit-l-16": (304_326_632, 61.555),
    "vit-l-32": (306_535_400, 15.378),
    "vit-h-14": (632_045_800, 167.295),
}
"""Parameters and 10^9 multiply-adds of a 224 x 224 image, from torchvision's table of weights."""


def graph_of(name: str, **plan: object) -> ExecutionGraph:
    return generate_vision(name, VisionPlan(**plan)).graphs[0]  # type: ignore[arg-type]


def ops_by_pass(graph: ExecutionGraph) -> dict[int, int]:
    """Of convolutions, products and attention."""
    counted: dict[int, int] = {}
    for row in range(len(graph)):
        if (
            graph.op_kinds[graph.op_kind_ids[row]] in ("matmul", "attention")
            and graph.kinds[row] == NodeKind.COMP
        ):
            key = int(graph.attributes(row)["pass"])
            counted[key] = counted.get(key, 0) + int(graph.ops[row])
    return counted


def row_of(graph: ExecutionGraph, name: str) -> int:
    [row] = [row for row in range(len(graph)) if graph.name(row) == name]
    return row


def reduced(graph: ExecutionGraph) -> np.ndarray:
    """Bytes of each all-reduce."""
    return graph.comm_bytes[(graph.kinds == NodeKind.COLL) & (graph.comm_kinds == CommKind.ALL_REDUCE)]


def test_every_network_has_published_figures_and_stands_in_the_help() -> None:
    assert set(NETWORKS) == set(PUBLISHED) == set(LISTED)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert network(name, Images()).parameters == PUBLISHED[name][0]


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_are_the_published_ones(name: str) -> None:
    assert round(ops_by_pass(graph_of(name, batch=1))[0] / 2e9, 3) == PUBLISHED[name][1]


def test_a_convolution_worked_by_hand() -> None:
    # 3 channels of 5x4 by four windows of 3x3 at stride 2: 3x2 places, 27 products each for 4 channels
    layer, shape = convolution("c", (1, 3, 5, 4), 4, 3, Formats("fp16"), stride=2, has_bias=True)
    assert shape == (1, 4, 3, 2)
    assert layer.parameters == 4 * 27 + 4
    ops = 2 * 6 * 27 * 4
    assert (layer.forward.ops, layer.backward.ops, layer.weights.ops) == (ops, ops, ops)
    # 60 numbers in, 24 out, 108 weights and 4 biases; gradients of those in 32 bits
    assert layer.forward.size_bytes == 2 * (60 + 24 + 112)
    assert layer.backward.size_bytes == 2 * (60 + 24 + 108)
    assert layer.weights.size_bytes == 2 * (60 + 24) + 4 * 112
    assert layer.saves == 2 * 60


def test_memory_bound_kernels_worked_by_hand() -> None:
    graph = graph_of("resnet-50", batch=1, dtype="fp16")
    moved = {graph.name(row): int(graph.tensor_bytes[row]) for row in range(len(graph))}
    stem = 2 * 64 * 112 * 112
    # batch norm reads twice and writes; backward it reads input and gradient twice and writes
    assert (moved["stem.bn1"], moved["stem.bn1.backward"]) == (3 * stem, 5 * stem)
    assert (moved["stem.relu"], moved["stem.relu.backward"]) == (2 * stem, 3 * stem)
    # a quarter comes out of the pool, with indices of 8 bytes
    assert moved["stem.pool"] == stem + stem // 4 + 8 * 64 * 56 * 56
    # the sum of a block has no kernel backward, but gradients are added where its branches part
    assert moved["layer1.0.add"] == 3 * 2 * 256 * 56 * 56
    assert "layer1.0.add.backward" not in moved
    assert "layer1.0.split" not in moved
    assert moved["layer1.0.split.backward"] == 3 * stem // 4
    running = graph_of("resnet-50", batch=1, dtype="fp16", is_inference=True)
    assert running.tensor_bytes[row_of(running, "stem.bn1")] == 2 * stem


@pytest.mark.parametrize("name", ["resnet-50", "vgg-16"])
def test_backward_takes_twice_the_forward_but_for_the_first_input(name: str) -> None:
    ops = ops_by_pass(graph_of(name, batch=4))
    images = Images(batch=4)
    first = network(name, images).layers[0].forward
    assert first is not None
    assert ops[1] == 2 * ops[0] - first.ops
    assert 2 not in ops


def test_attention_takes_five_products_backward() -> None:
    ops = ops_by_pass(graph_of("vit-b-16"))
    made = network("vit-b-16", Images(batch=32))
    core = sum(layer.forward.ops for layer in made.layers if layer.op_kind == "attention" and layer.forward)
    first = made.layers[0].forward
    assert first is not None
    # 12 layers, 2 products of 197 x 197 x 768
    assert core == 32 * 12 * 2 * 2 * 197**2 * 768
    assert ops[1] == 2 * (ops[0] - core) + core * 5 // 2 - first.ops


def test_every_gradient_is_reduced_once() -> None:
    for name, (parameters, _) in PUBLISHED.items():
        assert reduced(graph_of(name, ranks=4)).sum() == 4 * parameters, name
        assert reduced(graph_of(name, ranks=4, gradient_dtype="bf16")).sum() == 2 * parameters, name
    assert len(reduced(graph_of("resnet-50"))) == 0


def test_buckets_are_filled_from_the_last_layer_on() -> None:
    # VGG-16 in 32 bits. fc3 has 4097 * 1000 parameters, which fill the first mebibyte alone; 25 MiB are
    # 6,553,600: fc2 (4097 * 4096) and fc1 (25089 * 4096) are more; stage 5 (3 * 2,359,808) is more, stage 4
    # (2 * 2,359,808 + 1,180,160) and conv3 of stage 3 (590,080) aren't yet, with conv2 of stage 3 they are.
    sizes = reduced(graph_of("vgg-16", ranks=2)) // 4
    rest = 295_168 + 147_584 + 73_856 + 36_928 + 1_792
    assert sizes.tolist() == [4_097_000, 16_781_312, 102_764_544, 7_079_424, 7_079_936, rest]


def test_a_gradient_is_reduced_beside_the_backward_pass() -> None:
    graph = graph_of("vgg-16", ranks=2)
    [parent] = [int(p) for p in graph.parents_of(row_of(graph, "classifier.fc3.reduce"))]
    assert graph.name(parent) == "classifier.fc3.weights"
    late = graph_of("vgg-16", ranks=2, overlaps=False)
    [parent] = [int(p) for p in late.parents_of(row_of(late, "classifier.fc3.reduce"))]
    assert late.name(parent) == "stage1.conv1.weights"
    machine = load_machine("dgx-a100")
    times = [
        simulate(
            generate_vision("vgg-16", VisionPlan(ranks=8, overlaps=overlaps)), machine, compute="roofline"
        )
        for overlaps in (True, False)
    ]
    assert json_document(times[0])["step_time_ns"] < json_document(times[1])["step_time_ns"]


def test_the_optimizer_waits_for_every_gradient() -> None:
    graph = graph_of("resnet-50", ranks=2)
    parents = {int(parent) for parent in graph.parents_of(row_of(graph, "optimizer.step"))}
    assert set(np.flatnonzero(graph.kinds == NodeKind.COLL).tolist()) <= parents
    # momentum: gradient read, parameter and momentum read and written
    assert graph.tensor_bytes[row_of(graph, "optimizer.step")] == 20 * 25_557_032


def test_nodes_say_what_they_are() -> None:
    graph = graph_of("resnet-50", batch=2, dtype="fp16", ranks=2)
    row = row_of(graph, "layer3.0.conv2.backward")
    assert graph.op_kinds[graph.op_kind_ids[row]] == "matmul"
    assert graph.dtypes[graph.dtype_ids[row]] == "fp16"
    assert graph.lane_names[graph.lanes[row]] == "compute"
    # the first block of stage 3 comes after the stem, 3 blocks and 4; its 3x3 convolution halves 28 to 14
    assert {"pass": 1, "layer": 8}.items() <= graph.attributes(row).items()
    assert graph.ops[row] == 2 * 2 * 14 * 14 * 256 * 256 * 9
    is_kernel = (graph.kinds == NodeKind.COMP) & ~graph.is_cpu
    assert (graph.ops[is_kernel] > 0).all()
    assert (graph.tensor_bytes[is_kernel] > 0).all()
    assert (graph.dtype_ids[is_kernel] >= 0).all()
    assert (graph.op_kind_ids[graph.kinds == NodeKind.COMP] >= 0).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_host_launches_every_kernel(name: str) -> None:
    graph = graph_of(name)
    launches = graph.is_cpu
    assert graph.ops[launches].sum() == ((graph.kinds == NodeKind.COMP) & ~launches).sum()
    assert not graph_of(name, has_host=False).is_cpu.any()


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_kept_is_freed(name: str) -> None:
    allocated, freed = allocations(graph_of(name))
    assert allocated.sum() == freed.sum() > 0
    assert allocations(graph_of(name, is_inference=True))[0].sum() == 0


def test_a_layer_norm_first_encoder_keeps_sixteen_activations_a_layer() -> None:
    # norm, qkv, q k v and result, norm, fc1: 8 of width h; GELU and fc2: 2 of width 4 h
    made = network("vit-b-16", Images(batch=3, formats=Formats("bf16")))
    assert sum(layer.saves for layer in made.units[5].layers) == 16 * 3 * 197 * 768 * 2


def test_memory_that_is_held_throughout() -> None:
    n = 25_557_032
    assert held_bytes(graph_of("resnet-50")) == {"parameters": 4 * n, "gradients": 4 * n, "optimizer": 4 * n}
    assert held_bytes(graph_of("resnet-50", dtype="fp16", optimizer="adam")) == {
        "parameters": 6 * n,
        "gradients": 4 * n,
        "optimizer": 8 * n,
    }
    assert held_bytes(graph_of("resnet-50", dtype="fp16", is_inference=True)) == {"parameters": 2 * n}


def test_ranks_share_columns() -> None:
    workload = generate_vision("resnet-50", VisionPlan(ranks=64))
    assert all(graph.ops is workload.graphs[0].ops for graph in workload.graphs.values())
    assert workload.groups[1].ranks == tuple(range(64))


@settings(max_examples=25)
@given(
    st.sampled_from(sorted(NETWORKS)),
    st.builds(
        VisionPlan,
        ranks=st.integers(1, 9),
        batch=st.integers(1, 64),
        dtype=st.sampled_from(["fp32", "tf32", "fp16", "bf16"]),
        bucket_bytes=st.sampled_from([1, 2**20, 2**25, 2**40]),
        overlaps=st.booleans(),
        optimizer=st.sampled_from(["sgd", "momentum", "adam"]),
        has_host=st.booleans(),
        is_inference=st.booleans(),
    ),
)
def test_every_plan_is_valid_and_replays(name: str, plan: VisionPlan) -> None:
    workload = generate_vision(name, plan)
    assert check_workload(workload) == []
    simulate(workload, load_machine("dgx-a100"), compute="roofline")
    trains = plan.ranks > 1 and not plan.is_inference
    assert reduced(workload.graphs[0]).sum() == (4 * PUBLISHED[name][0] if trains else 0)


@pytest.mark.parametrize(
    "plan",
    [
        VisionPlan(ranks=0),
        VisionPlan(batch=0),
        VisionPlan(batch=10**10),
        VisionPlan(ranks=10**6),
        VisionPlan(image_size=8),
        VisionPlan(image_size=230),
        VisionPlan(dtype="fp4"),
        VisionPlan(gradient_dtype="int8"),
        VisionPlan(bucket_bytes=0),
        VisionPlan(optimizer="lion"),
    ],
)
def test_plans_that_cant_be_are_refused(plan: VisionPlan) -> None:
    with pytest.raises(ConfigError):
        generate_vision("vit-b-16", plan)


def test_a_network_that_isnt_known_is_refused() -> None:
    with pytest.raises(UnknownName, match="resnet-50"):
        generate_vision("resnet-5", VisionPlan())


def test_the_command_writes_what_can_be_replayed(tmp_path: Path) -> None:
    options = ["--ranks", "2", "--dtype", "fp16", "--batch", "8", "--bucket", "10MB", "-o", str(tmp_path)]
    run = CliRunner().invoke(main, ["generate", "vision", "--model", "resnet-50", *options, "--json"])
    assert run.exit_code == 0, run.output
    assert orjson.loads(run.stdout)["world_size"] == 2
    replay = ["replay", str(tmp_path), "--machine", "dgx-a100", "--compute", "roofline", "--json"]
    run = CliRunner().invoke(main, replay)
    assert run.exit_code == 0, run.output
    direct = simulate(
        generate_vision("resnet-50", VisionPlan(ranks=2, dtype="fp16", batch=8, bucket_bytes=10**7)),
        load_machine("dgx-a100"),
        compute="roofline",
    )
    assert orjson.loads(run.stdout)["step_time_ns"] == json_document(direct)["step_time_ns"]


def test_a_network_that_isnt_known_gets_one_line(tmp_path: Path) -> None:
    run = CliRunner().invoke(main, ["generate", "vision", "--model", "resnet50", "-o", str(tmp_path / "out")])
    assert run.exit_code == 2
    assert "did you mean 'resnet-50'" in run.output
    assert len(run.output.splitlines()) == 1
