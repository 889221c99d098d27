"""Recommendation models with embedding tables: their shape, and those that come with chakrasim.

A file is a mapping with the fields of `Dlrm`; those with a default may be left out, `pooling` may be one
number for all tables. `published` holds what the model's makers say of it, which tests compare with our
counts.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.shared.yaml_files import read_mapping, require_known, shown

MAX_COUNT = 10**11
"""Rows of a table, or any other count; more are taken for a slip."""
MAX_PARAMETERS = 10**15
"""Parameters of a model; the largest published have some 10^13."""
MAX_LAYERS = 1000
"""Cross layers; published models have fewer than ten."""


@dataclass(frozen=True)
class Dlrm:
    """A deep learning recommendation model (Naumov et al., 2019).

    Dense features go through the bottom MLP; what comes out and the pooled embeddings interact, by the dot
    product of each pair or through cross layers, and the top MLP makes the prediction of that.
    """

    name: str
    source: str
    rows: tuple[int, ...]
    """Rows of each embedding table; one table a categorical feature."""
    embedding: int
    """Numbers an embedding has."""
    dense: int
    """Dense features."""
    bottom: tuple[int, ...]
    """Widths of the bottom MLP's layers; the last is that of an embedding."""
    top: tuple[int, ...]
    """Widths of the top MLP's layers."""
    pooling: tuple[int, ...] = (1,)
    """Rows looked up and added for a sample, by table or in every table."""
    cross_layers: int = 0
    """Low-rank cross layers (Wang et al., DCN V2, 2021) in place of dot products; 0 for those."""
    cross_rank: int = 0

    def __post_init__(self) -> None:
        if self.bottom[-1] != self.embedding:
            raise ConfigError(
                f"{self.name}: the bottom MLP ends in {self.bottom[-1]}; expected the embedding's "
                f"{self.embedding}, with which it interacts"
            )
        if len(self.pooling) not in (1, len(self.rows)):
            raise ConfigError(
                f"{self.name}: pooling has {len(self.pooling)} numbers; expected one, or {len(self.rows)}, "
                "as many as tables"
            )
        if self.table_parameters + self.dense_parameters > MAX_PARAMETERS:
            raise ConfigError(f"{self.name}: has over {MAX_PARAMETERS:,} parameters, which can't be")
        if bool(self.cross_layers) != bool(self.cross_rank):
            raise ConfigError(f"{self.name}: cross_layers and cross_rank belong together")

    @property
    def tables(self) -> int:
        """Categorical features."""
        return len(self.rows)

    @property
    def pools(self) -> tuple[int, ...]:
        """Lookups of a sample in each table."""
        return self.pooling * self.tables if len(self.pooling) == 1 else self.pooling

    @property
    def vectors(self) -> int:
        """Number of interacting vectors: an embedding a table, and the bottom MLP's result."""
        return self.tables + 1

    @property
    def top_inputs(self) -> int:
        """With dot products those of all pairs beside the bottom MLP's result, else all vectors."""
        if self.cross_layers:
            return self.vectors * self.embedding
        return self.embedding + self.vectors * (self.vectors - 1) // 2

    @property
    def table_parameters(self) -> int:
        """Parameters of all embedding tables."""
        return sum(self.rows) * self.embedding

    @property
    def dense_parameters(self) -> int:
        """Weights and biases of MLPs and cross layers; a cross layer has two matrices and one bias."""
        crossed = self.vectors * self.embedding
        cross = self.cross_layers * (2 * crossed * self.cross_rank + crossed)
        widths = [(self.dense, *self.bottom), (self.top_inputs, *self.top)]
        return cross + sum((m + 1) * n for mlp in widths for m, n in pairwise(mlp))


def dlrm_names() -> list[str]:
    """Names of the models that come with chakrasim."""
    return sorted(path.stem for path in _presets().iterdir() if path.suffix == ".yaml")


def dlrm_path(name_or_path: str) -> Path:
    """The file of a model by its name, or the path itself.

    Raises UnknownName for something that is neither a known name nor looks like a path.
    """
    if name_or_path in dlrm_names():
        return _presets() / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    raise UnknownName("recommendation model", name_or_path, dlrm_names())


def load_dlrm(name_or_path: str) -> Dlrm:
    """A model by its name, or one from a YAML file.

    >>> load_dlrm("criteo-kaggle").tables
    26

    Raises ConfigError with the file, the key, what was expected and what came, UnknownName for a name that
    isn't known.
    """
    path = dlrm_path(name_or_path)
    content = read_mapping(path)
    content.pop("published", None)
    require_known(content, [field.name for field in fields(Dlrm)], str(path))
    values: dict[str, Any] = {}
    for field in fields(Dlrm):
        if field.name in content:
            values[field.name] = _value(field.name, str(field.type), content[field.name], str(path))
        elif field.default is MISSING:
            raise ConfigError(f"{path}: lacks the key {field.name!r}")
    return Dlrm(**values)


def _presets() -> Path:
    return Path(str(resources.files("chakrasim.converters.synthetic.dlrm"))) / "catalogue"


def _value(key: str, kind: str, value: Any, place: str) -> Any:
    minimum, maximum = (
        (0 if key.startswith("cross_") else 1),
        (MAX_LAYERS if key == "cross_layers" else MAX_COUNT),
    )
    if kind == "str":
        is_right, expected = isinstance(value, str) and bool(value.strip()), "text"
    elif kind == "int":
        is_right, expected = (
            _is_count(value, minimum, maximum),
            f"a whole number from {minimum} to {maximum:,}",
        )
    else:
        value = (value,) if key == "pooling" and not isinstance(value, list) else value
        is_right = (
            isinstance(value, list | tuple) and bool(value) and all(_is_count(v, 1, MAX_COUNT) for v in value)
        )
        expected = f"a list of whole numbers from 1 to {MAX_COUNT:,}"
    if not is_right:
        raise ConfigError(f"{place}: {key} is {shown(value)}; expected {expected}")
    return tuple(value) if kind not in ("str", "int") else value


def _is_count(value: Any, minimum: int, maximum: int) -> bool:
    return type(value) is int and minimum <= value <= maximum
