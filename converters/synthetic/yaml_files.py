"""Descriptions in YAML files: read with one line for whatever is wrong."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from chakrasim.traces.errors import ConfigError, nearest


class _UniqueKeys(yaml.SafeLoader):
    """A loader that refuses a key given twice, which YAML itself lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(self.construct_object(key, deep=True)) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", mark)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[Any, Any]:
    """The keys and values of a file. Raises ConfigError for a file that can't be read, or isn't that."""
    try:
        content = yaml.load(path.read_bytes(), Loader=_UniqueKeys)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: is {shown(content)}; expected keys and values")
    return content


def require_known(content: dict[Any, Any], known: Collection[str], place: str) -> None:
    """Raise ConfigError for the first key that isn't known."""
    for key in content:
        if key not in known:
            guess = nearest(str(key), known)
            hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}"
            raise ConfigError(f"{place}: unknown key {key!r}; {hint}")


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
