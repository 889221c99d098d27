"""Models by name, and models that a user describes in a file of the same form.

A file is a mapping with the fields of `Model`; `experts` and `latent` are mappings with those of `Experts`
and `LatentAttention`. Fields that have a default there may be left out. `published` holds what the model's
makers say of it, which tests compare with our counts.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from chakrasim.converters.synthetic.transformer.model.model import Experts, LatentAttention, Model
from chakrasim.traces.errors import ConfigError, UnknownName
from chakrasim.traces.shared.yaml_files import read_mapping, require_known, shown

MAX_LAYERS = 10_000
"""Layers of a model; published ones have fewer than 200, and more are taken for a slip."""
MAX_COUNT = 10**8
"""Any other figure of a model; more is taken for a slip, and its operations would overflow."""
PUBLISHED = (
    "source",
    "parameters",
    "active_parameters",
    "active_parameters_without_embedding",
    "training_operations",
)
"""Keys of a `published` mapping. Figures are whole, or text with as many digits as were published, as
in 12.9B. The operations of a whole training are those of parameters alone, not of the attention's core."""
MAY_BE_ZERO: dict[type[Any], tuple[str, ...]] = {
    Model: ("ffn", "learned_positions", "window"),
    Experts: ("shared_ffn", "dense_layers"),
    LatentAttention: ("query_rank", "rope_size"),
}

_Described = TypeVar("_Described", Model, Experts, LatentAttention)


def model_names() -> list[str]:
    """Names of the models that come with chakrasim."""
    return sorted(path.stem for path in _presets().iterdir() if path.suffix == ".yaml")


def model_path(name_or_path: str) -> Path:
    """The file of a model by its name, or the path itself.

    Raises UnknownName for something that is neither a known name nor looks like a path.
    """
    if not name_or_path:
        raise ConfigError("the model's name is empty; expected a name or a file")
    if name_or_path in model_names():
        return _presets() / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    raise UnknownName("model", name_or_path, model_names())


def load_model(name_or_path: str) -> Model:
    """A model by its name, or one from a YAML file.

    >>> load_model("llama3-8b").hidden
    4096

    Raises ConfigError with the file, the key, what was expected and what came, UnknownName for a name that
    isn't known.
    """
    path = model_path(name_or_path)
    content = dict(read_mapping(path))
    if "published" in content:
        place = f"{path}: published"
        require_known(_mapping(content.pop("published"), place), PUBLISHED, place)
    model = _described(Model, content, str(path))
    _check(model, str(path))
    return model


def _presets() -> Path:
    return Path(str(resources.files("chakrasim.converters.synthetic.transformer.model"))) / "catalogue"


def _mapping(content: Any, place: str) -> dict[Any, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"{place}: is {shown(content)}; expected keys and values")
    return content


def _described(kind: type[_Described], content: dict[Any, Any], place: str) -> _Described:
    described = fields(kind)
    require_known(content, [field.name for field in described], place)
    values = {}
    for field in described:
        if field.name in content:
            values[field.name] = _value(kind, field, content[field.name], place)
        elif field.default is MISSING:
            raise ConfigError(f"{place}: lacks the key {field.name!r}")
    return kind(**values)


def _value(kind: type[_Described], field: Field[Any], value: Any, place: str) -> Any:
    where = f"{place}: {field.name}"
    if field.name == "experts":
        return _described(Experts, _mapping(value, where), where)
    if field.name == "latent":
        return _described(LatentAttention, _mapping(value, where), where)
    if field.type == "int":
        minimum = 0 if field.name in MAY_BE_ZERO[kind] else 1
        maximum = MAX_LAYERS if field.name == "layers" else MAX_COUNT
        is_right = type(value) is int and minimum <= value <= maximum
        expected = f"a whole number from {minimum} to {maximum:,}"
    elif field.type == "bool":
        is_right, expected = isinstance(value, bool), "true or false"
    else:
        is_right, expected = isinstance(value, str) and bool(value.strip()), "text"
    if not is_right:
        raise ConfigError(f"{where} is {shown(value)}; expected {expected}")
    return value


def _check(model: Model, place: str) -> None:
    """Figures that can't stand beside each other."""
    experts = model.experts
    if model.heads % model.kv_heads:
        raise ConfigError(
            f"{place}: kv_heads is {model.kv_heads}; expected a divisor of heads, {model.heads}"
        )
    if experts is not None and experts.top_k > experts.count:
        raise ConfigError(f"{place}: experts: top_k is {experts.top_k}; there are {experts.count} experts")
    if experts is not None and experts.dense_layers > model.layers:
        raise ConfigError(
            f"{place}: experts: dense_layers is {experts.dense_layers}; the model has {model.layers} layers"
        )
    if model.learned_positions and model.sequence > model.learned_positions:
        raise ConfigError(
            f"{place}: sequence is {model.sequence}; expected no more than the {model.learned_positions} "
            "learned_positions"
        )
    if model.ffn == 0 and (experts is None or experts.dense_layers):
        raise ConfigError(f"{place}: ffn is 0; expected the width of the layers that have no experts")
