"""The schema: bytes interchangeable with Chakra's, and the committed module up to date."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from chakrasim.proto import execution_graph_pb2 as schema
from chakrasim.proto.framing import FramingError, frame_records, split_records

PROTO = Path(__file__).resolve().parents[2] / "proto" / "execution_graph.proto"

# Field and enum numbers of MLCommons Chakra, schema 0.0.4.
NODE_FIELDS = {
    "id": 1,
    "name": 2,
    "type": 3,
    "ctrl_deps": 4,
    "data_deps": 5,
    "start_time_micros": 6,
    "duration_micros": 7,
    "inputs": 8,
    "outputs": 9,
    "attr": 10,
}
VALUE_KINDS = """
    double float int32 int64 uint32 uint64 sint32 sint64 fixed32 fixed64 sfixed32 sfixed64 bool string bytes
""".split()  # noqa: SIM905


def test_node_fields_have_chakras_numbers() -> None:
    assert {f.name: f.number for f in schema.Node.DESCRIPTOR.fields} == NODE_FIELDS


def test_attributes_have_all_thirty_value_kinds_with_chakras_numbers() -> None:
    numbers = {f.name: f.number for f in schema.AttributeProto.DESCRIPTOR.oneofs_by_name["value"].fields}
    expected = {}
    for position, kind in enumerate(VALUE_KINDS):
        expected[f"{kind}_val"] = 3 + 2 * position
        expected[f"{kind}_list"] = 4 + 2 * position
    assert numbers == expected
    assert len(numbers) == 30


def test_enums_have_chakras_values() -> None:
    assert schema.NodeType.items()[-1] == ("COMM_COLL_NODE", 7)
    assert [name for name, _ in schema.CollectiveCommType.items()] == [
        "ALL_REDUCE",
        "REDUCE",
        "ALL_GATHER",
        "GATHER",
        "SCATTER",
        "BROADCAST",
        "ALL_TO_ALL",
        "REDUCE_SCATTER",
        "REDUCE_SCATTER_BLOCK",
        "BARRIER",
    ]


def test_the_committed_module_is_what_the_schema_says(tmp_path: Path) -> None:
    protoc = shutil.which("protoc", path=sysconfig.get_path("scripts"))
    if protoc is None:
        pytest.fail("no protoc in this environment; the test extra installs it")
    out = tmp_path / "schema.pb"
    subprocess.run([protoc, f"-I{PROTO.parent}", f"--descriptor_set_out={out}", PROTO.name], check=True)
    fresh = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]
    committed = descriptor_pb2.FileDescriptorProto()
    schema.DESCRIPTOR.CopyToProto(committed)
    for file in (fresh, committed):
        for message in file.message_type:
            for field in message.field:
                field.ClearField("json_name")
    assert committed == fresh


def test_framing_round_trips_records_of_every_length_class() -> None:
    records = [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 20_000]
    data = frame_records(records)
    assert [data[start:end] for start, end in split_records(data)] == records


@pytest.mark.parametrize("cut", [1, 5, 127, 130])
def test_a_cut_file_is_told_from_one_that_ends(cut: int) -> None:
    data = frame_records([b"x" * 200])
    with pytest.raises(FramingError):
        list(split_records(data[:cut]))


def test_a_length_that_never_ends_is_refused() -> None:
    with pytest.raises(FramingError, match="more than ten bytes"):
        list(split_records(b"\xff" * 20))
