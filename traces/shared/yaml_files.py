"""Strict reader of YAML files: a key given twice or not known is an error of one line that names it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from chakrasim.traces.errors import ConfigError, nearest

MAX_SHOWN = 60
"""Characters of a value in a message, so that the message stays on one line."""


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice, of which YAML itself silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if str(key) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(str(key))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read a YAML file. Raises ConfigError with the line if it isn't valid, OSError if it can't be opened."""
    try:
        return yaml.load(path.read_bytes(), Loader=_UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def read_mapping(path: Path) -> dict[Any, Any]:
    """Read a YAML file of keys and values. Raises ConfigError if it can't be read or holds anything else."""
    try:
        content = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: is {shown(content)}; expected keys and values")
    return content


def unknown_key(content: dict[Any, Any], known: Collection[str]) -> str | None:
    """Error message for the first key that isn't known, with the nearest known one; None if all are known."""
    for key in content:
        if key not in known:
            guess = nearest(str(key), known)
            hint = f"did you mean {guess!r}?" if guess else f"known are {', '.join(known)}"
            return f"unknown key {key!r}; {hint}"
    return None


def require_known(content: dict[Any, Any], known: Collection[str], place: str) -> None:
    """Raise ConfigError for the first key that isn't known."""
    message = unknown_key(content, known)
    if message:
        raise ConfigError(f"{place}: {message}")


def shown(value: Any) -> str:
    """Text of a value for a message, cut to `MAX_SHOWN` characters."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
