"""Mappings of keys to values as they come from YAML or JSON, and how each mistake in them is named."""

from __future__ import annotations

import glob
import json
import math
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from chakrasim.traces.errors import ConfigError, nearest
from chakrasim.traces.shared.yaml_files import shown, unknown_key

GIGA = 1e9
MIN_VALUE, MAX_VALUE = 1.0, 1e30
"""Range of a bandwidth, peak or memory: beyond it is a slip, and times would overflow int64."""
MAX_PS = 10**15
"""Maximum latency, 1,000 s: so far floats hold picoseconds exactly, and sums of many fit in int64."""
MAX_BUS_NS = 1e9
"""Maximum of each parameter of a bus."""
MAX_WHOLE = 2**63 - 1


def load_json(path: Path) -> Any:
    """Content of a JSON file. Raises ConfigError if it isn't JSON, OSError if it can't be opened."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None


def _unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is given twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


class Block:
    """A mapping of a file, with the words to say where in the file it stands."""

    def __init__(self, content: Any, source: str, where: str = "the file") -> None:
        self.source, self.where = source, where
        if not isinstance(content, dict):
            self.fail(f"is {shown(content)}; expected keys and values")
        self.content: dict[Any, Any] = content

    def fail(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.source}: {self.where} {message}")

    def keys(self, required: Collection[str], optional: Collection[str] = ()) -> None:
        """Refuse unknown keys, with the nearest known one, and missing ones."""
        message = unknown_key(self.content, [*required, *optional])
        if message:
            self.fail(f"has an {message}")
        for key in required:
            if key not in self.content:
                self.fail(f"lacks the key {key!r}")

    def has(self, key: str) -> bool:
        return key in self.content

    def block(self, key: str) -> Block:
        return Block(self.content[key], self.source, key)

    def expected(self, key: str, expected: str) -> NoReturn:
        """Refuse the value of a key."""
        self.fail(f"has {key}: {shown(self.content[key])}; expected {expected}")

    def text(self, key: str) -> str:
        value = self.content[key]
        if not isinstance(value, str) or not value.strip():
            self.expected(key, "a text")
        return str(value)

    def choice(self, key: str, choices: Collection[str]) -> str:
        value = self.content[key]
        if not isinstance(value, str) or value not in choices:
            guess = nearest(str(value), choices)
            hint = f"did you mean {guess!r}? " if guess else ""
            self.fail(f"has {key}: {shown(value)}; {hint}expected one of {', '.join(choices)}")
        return value

    def number(self, key: str, default: float | None = None, maximum: float = math.inf) -> float:
        """A finite number of 0 or more; the default where the key is absent."""
        if default is not None and key not in self.content:
            return default
        value = finite(self.content[key])
        if value is None or value < 0:
            self.expected(key, "a number of 0 or more")
        if value > maximum:
            self.expected(key, f"a number of at most {maximum:,.0f}")
        return value

    def positive(self, key: str, unit: float = 1.0) -> float:
        """A number above 0, given in units of so much, as a number of single units."""
        number = finite(self.content[key])
        if number is None or number <= 0:
            self.expected(key, "a number above 0")
        value = number * unit
        if not MIN_VALUE <= value <= MAX_VALUE:
            self.expected(key, f"a number from {MIN_VALUE / unit:g} to {MAX_VALUE / unit:g}")
        return value

    def time_ps(self, key: str, ps_per_unit: int, default: float | None = None) -> int:
        """A time of 0 or more; the default, in the key's unit, where the key is absent."""
        return round(self.number(key, default, MAX_PS / ps_per_unit) * ps_per_unit)

    def whole(self, key: str, minimum: int, default: int | None = None) -> int:
        """A whole number; the default where the key is absent."""
        if default is not None and key not in self.content:
            return default
        value = self.content[key]
        if not is_whole(value, minimum):
            self.expected(key, f"a whole number of {minimum} or more")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            self.expected(key, "true or false")
        return value

    def rate(self, giga: str, single: str) -> float:
        """A number above 0 in single units, from a key in units of 10^9 or one in single units.

        Only the latter holds every number exactly.
        """
        if giga in self.content and single in self.content:
            self.fail(f"has both {giga} and {single}; expected one of them")
        if giga not in self.content and single not in self.content:
            self.fail(f"lacks the key {giga!r}")
        return self.positive(single) if single in self.content else self.positive(giga, GIGA)

    def ranks(self, key: str) -> tuple[int, ...]:
        """A list of distinct rank numbers."""
        value = self.content[key]
        if not isinstance(value, list) or not value or not all(is_whole(rank, 0) for rank in value):
            self.expected(key, "a list of ranks, at least one")
        if len(set(value)) != len(value):
            self.expected(key, "each rank once")
        return tuple(value)


def finite(value: Any) -> float | None:
    """A number as a float; None for anything else, and for what is not finite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def is_whole(value: Any, minimum: int) -> bool:
    """True if a value is an int, no bool, large enough, and fits in 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= MAX_WHOLE


def found_near(file: Path, path: str) -> str | None:
    """A path that a file states: beside that file if it is there, else as it stands; None if it is nowhere.

    A path can be that of a file, or the common beginning of files `<path>.<rank>.et`.
    """
    for candidate in (file.parent / path, Path(path)):
        pattern = f"{glob.escape(candidate.name)}.*.et"
        # A text that can't be a path, too long or with a zero byte, is no file either.
        with suppress(OSError, ValueError):
            if candidate.is_file() or any(candidate.parent.glob(pattern)):
                return str(candidate)
    return None
