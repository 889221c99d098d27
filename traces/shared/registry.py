"""Named parts of one family (compute models, trace formats, …), to which other packages can add.

    COMPUTE: Registry[ComputeModel] = Registry(
        "compute model", {"roofline": "chakrasim.replay.compute.roofline:Roofline"}, "chakrasim.compute"
    )

Another package adds one with an entry point in its own `setup.cfg`:

    [options.entry_points]
    chakrasim.compute =
        table = my_package.table:TableModel

or, from Python, with `COMPUTE.register("table", TableModel)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from chakrasim.traces.errors import ConfigError, PluginError, UnknownName

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")

OWN = "chakrasim"
"""Source of the built-in entries."""


@dataclass(frozen=True)
class Entry:
    """One name of a registry, as listed for people."""

    name: str
    source: str
    """`chakrasim`, another distribution's name and version, or the module that registered it."""
    summary: str
    """One line: the entry's `summary`, else the first line of its docstring; else why it can't be loaded."""


class Registry(Generic[T]):
    """A family of named parts: built-in, from installed packages, or registered from Python.

    Nothing is imported before it is asked for, and installed packages are searched only for a name that isn't
    built in, or to list all names.
    """

    def __init__(self, what: str, builtin: Mapping[str, str], group: str) -> None:
        """Make a registry of `what`, the family's name in messages.

        `builtin` maps names to `module:attribute`; `group` is the entry-point group of other packages.
        """
        self.what = what
        self.group = group
        self._builtin = dict(builtin)
        self._registered: dict[str, T] = {}
        self._plugins: dict[str, EntryPoint] | None = None

    def register(self, name: str, part: T) -> None:
        """Add a part under a new name. Raises ConfigError for one that is taken."""
        if name in self._builtin or name in self._registered or name in (self._plugins or ()):
            raise ConfigError(f"{self.what} {name!r} is there already, from {self._source(name)}")
        self._registered[name] = part

    def unregister(self, name: str) -> None:
        """Take back a `register`."""
        del self._registered[name]

    def get(self, name: str) -> T:
        """The part of that name. Raises UnknownName; PluginError for a package's that can't be loaded."""
        if name in self._registered:
            return self._registered[name]
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            return cast(T, attrgetter(attribute)(import_module(module)))
        if name not in self._installed():
            raise UnknownName(self.what, name, self.names())
        entry_point = self._installed()[name]
        try:
            return cast(T, entry_point.load())
        except Exception as error:  # whatever the import of another package's module raises
            raise PluginError(
                f"{self.what} {name!r} of {_package(entry_point)} can't be loaded from {entry_point.value}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._registered or name in self._installed()

    def is_builtin(self, name: str) -> bool:
        """Tell whether chakrasim itself brings the part of that name."""
        return name in self._builtin

    def names(self) -> tuple[str, ...]:
        """All names: the built-in ones in their own order, then the others."""
        return (*self._builtin, *sorted({*self._registered, *self._installed()}))

    def entries(self) -> tuple[Entry, ...]:
        """All names with their source and summary."""
        return tuple(Entry(name, self._source(name), self._summary(name)) for name in self.names())

    def _installed(self) -> dict[str, EntryPoint]:
        """Entry points of installed packages by name. Raises PluginError where two sources claim a name."""
        if self._plugins is not None:
            return self._plugins
        from importlib.metadata import entry_points

        found: dict[str, EntryPoint] = {}
        for entry_point in entry_points(group=self.group):
            name, package = entry_point.name, _package(entry_point)
            if name in found and found[name] == entry_point:
                continue  # one package found in two places
            if name in self._builtin or name in self._registered or name in found:
                other = _package(found[name]) if name in found else self._source(name)
                raise PluginError(
                    f"{self.what} {name!r} comes from both {other} and {package} (entry-point group "
                    f"{self.group}); uninstall {package} or have it use another name"
                )
            found[name] = entry_point
        self._plugins = found
        return found

    def _source(self, name: str) -> str:
        if name in self._builtin:
            return OWN
        if name in self._registered:
            return f"module {getattr(self._registered[name], '__module__', None) or '?'}"
        return _package(self._installed()[name])

    def _summary(self, name: str) -> str:
        try:
            part = self.get(name)
        except PluginError as error:
            return f"can't be loaded: {error.__cause__}"
        summary = getattr(part, "summary", None)
        text = summary if isinstance(summary, str) else inspect.getdoc(part) or ""
        return text.strip().partition("\n")[0]


def _package(entry_point: EntryPoint) -> str:
    """Name and version of the distribution that an entry point comes from."""
    dist = entry_point.dist
    return f"{dist.name} {dist.version}" if dist is not None else entry_point.value.partition(":")[0]
