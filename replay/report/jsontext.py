"""JSON on standard output."""

from __future__ import annotations

from typing import Any

import click


def print_json(document: Any) -> None:
    """Print a document on standard output, and nothing else."""
    import orjson

    option = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    try:
        data = orjson.dumps(document, option=option)
    except TypeError:
        data = orjson.dumps(_as_utf8(document), option=option)
    click.echo(data, nl=False)


def _as_utf8(value: Any) -> Any:
    """The value with a question mark for each byte of a file's name that isn't UTF-8."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_as_utf8(key): _as_utf8(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_utf8(item) for item in value]
    return value
