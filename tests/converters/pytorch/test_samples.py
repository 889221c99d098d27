"""The bundled sample: its graphs are what the converter makes of its recordings."""

from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path

from chakrasim.converters.pytorch import convert_pytorch
from chakrasim.replay.machine.load import load_machine
from chakrasim.replay.report.result.document import json_document
from chakrasim.replay.simulate import simulate
from chakrasim.traces import load_workload, save_workload

SAMPLE = Path(str(resources.files("chakrasim.traces"))) / "samples" / "ddp_transformer"


def test_the_graphs_are_what_the_converter_makes_of_the_recordings(tmp_path: Path) -> None:
    save_workload(convert_pytorch(SAMPLE), tmp_path, SAMPLE.name, compress=True)
    for file in sorted(tmp_path.iterdir()):
        fresh, bundled = (gzip.decompress(path.read_bytes()) for path in (file, SAMPLE / file.name))
        assert fresh == bundled, (
            f"{file.name} is stale: chakrasim convert {SAMPLE} -o {SAMPLE} --compress --force"
        )


def test_the_sample_is_one_step_on_four_ranks_with_its_gradients_reduced() -> None:
    workload = load_workload(SAMPLE)
    result = simulate(workload, load_machine("ethernet-10g"), network="measured")
    (reduced,) = json_document(result)["collectives"]
    assert workload.ranks == (0, 1, 2, 3)
    assert (reduced["kind"], reduced["count"]) == ("all-reduce", 4)
    assert reduced["bytes"] == 932_608 * 4  # every parameter once, in fp32
