"""The text workload format of ASTRA-sim 1.0, as its tag `tutorial-asplos2023` reads it.

Tokens separated by white space; where lines end means nothing. First a kind of parallelism with its numbers,
then how many layers there are, then 12 tokens a layer (13 for `HYBRID_CUSTOMIZED`):

    name  dependency  (compute ns  collective  bytes) x 3  update ns

with the triples for the forward pass, the input gradient and the weight gradient. What follows the last layer
is ignored, and so are the dependency (order comes from the kind's loop alone) and the text of labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chakrasim.traces.errors import TraceError, nearest
from chakrasim.traces.graph import CommKind

DLRM_KINDS = ("HYBRID_DLRM", "HYBRID_DLRM_ENHANCED")
TRANSFORMER, RECOMPUTING_TRANSFORMER = "HYBRID_TRANSFORMER", "HYBRID_TRANSFORMER_FWD_IN_BCKWD"
LAYER_KINDS = ("DATA", "MODEL", "HYBRID_DATA_MODEL", "HYBRID_MODEL_DATA")
"""Kinds of a single layer of `HYBRID_CUSTOMIZED`."""
KINDS = (
    "MICRO",
    *LAYER_KINDS,
    "HYBRID_CUSTOMIZED",
    *DLRM_KINDS,
    TRANSFORMER,
    RECOMPUTING_TRANSFORMER,
    "DISTRIBUTED_INFERENCE",
)

COLLECTIVES = {
    "ALLREDUCE": CommKind.ALL_REDUCE,
    "ALLTOALL": CommKind.ALL_TO_ALL,
    "ALLGATHER": CommKind.ALL_GATHER,
    "REDUCESCATTER": CommKind.REDUCE_SCATTER,
}
BOTH = "ALLREDUCEALLTOALL"
"""A word that ASTRA-sim reads but can't run."""

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = "forward", "input gradient", "weight gradient"
MAX_NS = 10**15
"""More time than one node can take, 11 days."""


@dataclass(frozen=True)
class Part:
    """Compute and collective of a layer in one direction."""

    direction: str
    """`FORWARD`, `INPUT_GRADIENT` or `WEIGHT_GRADIENT`."""
    compute_ns: int
    word: str
    """One of `COLLECTIVES`, `BOTH`, or anything else for none."""
    size_bytes: int
    """Bytes that a rank contributes: its shard of an all-gather, its whole buffer otherwise."""

    @property
    def collective(self) -> CommKind | None:
        """None where there is none."""
        return COLLECTIVES.get(self.word)


@dataclass(frozen=True)
class Layer:
    """One layer of the file."""

    name: str
    forward: Part
    input_gradient: Part
    weight_gradient: Part
    update_ns: int
    """Added to the end of every collective of the layer."""
    kind: str | None = None
    """One of `LAYER_KINDS`, of `HYBRID_CUSTOMIZED` only."""

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """Forward, input gradient, weight gradient."""
        return self.forward, self.input_gradient, self.weight_gradient


@dataclass(frozen=True)
class TextWorkload:
    """A file: its kind, the kind's numbers, and its layers."""

    path: Path
    kind: str
    """One of `KINDS`."""
    layers: tuple[Layer, ...]
    last_bottom_layer: int | None = None
    """Index of the last layer of the bottom MLP, for the DLRM kinds."""
    group: int | None = None
    """Neighbouring ranks that share one copy of the model, for the transformer kinds."""
    checkpoints: tuple[int, ...] = ()
    """Layers whose input is kept, so that a forward pass can start again from there."""
    checkpoint_initiates: tuple[int, ...] = ()
    """Layers whose backward pass first repeats the forward pass from the checkpoint before."""


def read_text(path: str | os.PathLike[str]) -> TextWorkload:
    """Read a text workload. O(tokens).

    Raises TraceError with the line and the layer for anything that can't be right, OSError for a file that
    can't be opened.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not a text file: byte {error.start} is not UTF-8") from None
    tokens = _Tokens(path, text)
    kind = tokens.take("the kind of parallelism, the first word of the file")
    if kind not in KINDS:
        guess = nearest(kind.upper(), KINDS)
        hint = f"did you mean {guess!r}?" if guess else f"known are {', '.join(KINDS)}"
        tokens.fail(f"unknown kind of parallelism {kind!r}; {hint}")
    bottom = group = None
    checkpoints: tuple[int, ...] = ()
    initiates: tuple[int, ...] = ()
    if kind in DLRM_KINDS:
        bottom = tokens.whole("the index of the last layer of the bottom MLP", minimum=-1)
    if kind in (TRANSFORMER, RECOMPUTING_TRANSFORMER):
        tokens.take("the label of the model-parallel group")
        group = tokens.whole("the size of the model-parallel group", minimum=1)
    if kind == RECOMPUTING_TRANSFORMER:
        checkpoints = tokens.indexes("checkpoints")
        initiates = tokens.indexes("checkpoint_initiates")
    count = tokens.whole("the number of layers", minimum=1)
    for what, indexes in (
        ("the last layer of the bottom MLP", (bottom,) if bottom is not None else ()),
        ("checkpoints", checkpoints),
        ("checkpoint_initiates", initiates),
    ):
        if indexes and max(indexes) >= count:
            raise TraceError(
                f"{path}: {what} names layer {max(indexes)}; the file has {count} layers, expected "
                f"0..{count - 1}"
            )
    _check_checkpoints(path, checkpoints, initiates)
    layers = tuple(_layer(tokens, index, count, kind) for index in range(count))
    return TextWorkload(path, kind, layers, bottom, group, checkpoints, initiates)


def checkpoint_before(layer: int, checkpoints: Sequence[int]) -> int | None:
    """The nearest of the checkpoints at the layer or before it.

    >>> checkpoint_before(3, [0, 2, 5])
    2
    """
    return max((index for index in checkpoints if index <= layer), default=None)


def _check_checkpoints(path: Path, checkpoints: Sequence[int], initiates: Sequence[int]) -> None:
    """Refuse recomputation that never gets back to the layer it started from."""
    for layer in initiates:
        start = checkpoint_before(layer, checkpoints)
        between = [other for other in initiates if start is not None and start < other < layer]
        if start is None or start == layer or between:
            what = (
                f"layer {between[0]}, which initiates too, lies between it and its checkpoint {start}"
                if between
                else f"the nearest checkpoint at or before it is {'missing' if start is None else 'itself'}"
            )
            raise TraceError(
                f"{path}: checkpoint_initiates names layer {layer}, but {what}; expected a checkpoint before "
                "the layer and no other initiating layer between"
            )


def _layer(tokens: _Tokens, index: int, count: int, kind: str) -> Layer:
    tokens.layer = f"layer {index + 1} of {count}"
    name = tokens.take("its name")
    tokens.layer = f"layer {name!r} ({index + 1} of {count})"
    tokens.integer("the dependency")
    forward = _part(tokens, FORWARD)
    input_gradient = _part(tokens, INPUT_GRADIENT)
    weight_gradient = _part(tokens, WEIGHT_GRADIENT)
    update_ns = tokens.whole("the update time (ns)")
    layer_kind = None
    if kind == "HYBRID_CUSTOMIZED":
        layer_kind = tokens.take("its kind of parallelism")
        if layer_kind not in LAYER_KINDS:
            guess = nearest(layer_kind.upper(), LAYER_KINDS)
            hint = f"did you mean {guess!r}? " if guess else ""
            tokens.fail(f"has kind {layer_kind!r}; {hint}expected one of {', '.join(LAYER_KINDS)}")
    return Layer(name, forward, input_gradient, weight_gradient, update_ns, layer_kind)


def _part(tokens: _Tokens, direction: str) -> Part:
    compute_ns = tokens.whole(f"the {direction} compute time (ns)")
    word = tokens.collective(f"the {direction} collective")
    return Part(direction, compute_ns, word, tokens.whole(f"the {direction} bytes"))


class _Tokens:
    """The words of the file one after the other, and where they stand."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.words = [
            (word, line) for line, words in enumerate(text.splitlines(), 1) for word in words.split()
        ]
        self.taken = 0
        self.layer = ""
        """The layer that is being read, for messages."""

    def fail(self, message: str) -> None:
        """Refuse the word taken last."""
        line = self.words[self.taken - 1][1]
        layer = f" {self.layer}" if self.layer else ""
        raise TraceError(f"{self.path}: line {line}, word {self.taken} of the file:{layer} {message}")

    def take(self, what: str) -> str:
        """The next word."""
        if self.taken == len(self.words):
            layer = f" of {self.layer}" if self.layer else ""
            raise TraceError(
                f"{self.path}: the file ends after {self.taken} words, before {what}{layer}; expected a "
                "kind, the number of layers, and 12 words a layer (13 for HYBRID_CUSTOMIZED)"
            )
        self.taken += 1
        return self.words[self.taken - 1][0]

    def integer(self, what: str) -> int:
        word = self.take(what)
        try:
            return int(word)
        except ValueError:
            self.fail(f"has {word!r} as {what}; expected a whole number")
            raise AssertionError from None

    def whole(self, what: str, minimum: int = 0) -> int:
        """A whole number of `minimum` up to `MAX_NS`."""
        value = self.integer(what)
        if not minimum <= value <= MAX_NS:
            self.fail(f"has {value} as {what}; expected {minimum} to {MAX_NS:,}")
        return value

    def indexes(self, label: str) -> tuple[int, ...]:
        """A label, a count, and that many indexes of layers."""
        self.take(f"the label {label}:")
        count = self.whole(f"the number of {label}")
        return tuple(self.whole(f"layer {i + 1} of {count} of {label}") for i in range(count))

    def collective(self, what: str) -> str:
        """The word of a collective. Any other word means none, but not one that looks like a slip."""
        word = self.take(what)
        known = (*COLLECTIVES, BOTH, "NONE")
        guess = nearest(word.upper(), known)
        if guess is not None and word not in known and guess != "NONE":
            self.fail(f"has {word!r} as {what}; did you mean {guess!r}? (NONE means none)")
        return word
