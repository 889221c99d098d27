"""The registries that all families of parts share: lookup, packages' entry points, and their mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chakrasim.traces.errors import ConfigError, PluginError, UnknownName
from chakrasim.traces.shared.registry import Entry, Registry


def shout(text: str) -> str:
    """Upper-case text.

    More about it.
    """
    return text.upper()


def text_models() -> Registry[object]:
    return Registry("text model", {"title": "string:capwords"}, "chakrasim.test_texts")


def install(
    folder: Path, package: str, entry_points: str, code: str = "", group: str = "chakrasim.test_texts"
) -> None:
    """Lay out a package as pip leaves it: a module and its metadata."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry_points}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, for packages to be installed in."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_built_in_part_is_loaded_when_asked_for() -> None:
    import string

    assert text_models().get("title") is string.capwords


def test_an_unknown_name_is_answered_with_all_names_and_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        text_models().get("titel")
    assert str(caught.value) == "no text model 'titel'; did you mean 'title'? (known: title)"


def test_an_unknown_name_unlike_all_others_gets_no_guess() -> None:
    with pytest.raises(UnknownName) as caught:
        text_models().get("qqq")
    assert str(caught.value) == "no text model 'qqq' (known: title)"


def test_a_part_registered_from_python_is_found_and_listed() -> None:
    registry = text_models()
    registry.register("shout", shout)
    assert registry.get("shout") is shout
    assert registry.names() == ("title", "shout")
    assert Entry("shout", f"module {__name__}", "Upper-case text.") in registry.entries()


def test_a_part_taken_back_is_unknown_again() -> None:
    registry = text_models()
    registry.register("shout", shout)
    registry.unregister("shout")
    assert "shout" not in registry


@pytest.mark.parametrize("name", ["title", "shout"])
def test_a_name_is_registered_only_once(name: str) -> None:
    registry = text_models()
    registry.register("shout", shout)
    with pytest.raises(ConfigError, match=f"text model '{name}' is there already, from"):
        registry.register(name, shout)


def test_a_package_adds_a_part_by_an_entry_point(site: Path) -> None:
    code = 'class Whisper:\n    """Whatever."""\n    summary = "Lower-case text."\n'
    install(site, "whispers-low", "whisper = whispers_low:Whisper", code)
    registry = text_models()
    assert getattr(registry.get("whisper"), "__name__", "") == "Whisper"
    assert registry.entries()[1:] == (Entry("whisper", "whispers-low 1.5", "Lower-case text."),)


def test_another_groups_entry_point_adds_nothing(site: Path) -> None:
    install(site, "whispers-other", "whisper = whispers_other:Whisper", group="chakrasim.test_others")
    assert text_models().names() == ("title",)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError: module 'whispers_broken' has no attribute 'Whisper'"),
    ],
)
def test_a_part_that_cant_be_loaded_names_its_package_and_the_cause(
    site: Path, monkeypatch: pytest.MonkeyPatch, code: str, cause: str
) -> None:
    monkeypatch.delitem(sys.modules, "whispers_broken", raising=False)
    install(site, "whispers-broken", "whisper = whispers_broken:Whisper", code)
    registry = text_models()
    with pytest.raises(PluginError) as caught:
        registry.get("whisper")
    assert str(caught.value) == (
        "text model 'whisper' of whispers-broken 1.5 can't be loaded from whispers_broken:Whisper: " + cause
    )
    assert registry.names() == ("title", "whisper")
    assert registry.entries()[1].summary == f"can't be loaded: {cause.partition(': ')[2]}"


def test_two_packages_with_one_name_are_both_named(site: Path) -> None:
    install(site, "whispers-one", "whisper = whispers_one:Whisper")
    install(site, "whispers-two", "whisper = whispers_two:Whisper")
    with pytest.raises(PluginError) as caught:
        text_models().get("whisper")
    for package in ("whispers-one 1.5", "whispers-two 1.5"):
        assert package in str(caught.value)


def test_a_package_cant_take_a_built_in_name(site: Path) -> None:
    install(site, "whispers-title", "title = whispers_title:Whisper")
    registry = text_models()
    with pytest.raises(
        PluginError, match=r"text model 'title' comes from both chakrasim and whispers-title 1\.5"
    ):
        registry.names()


def test_a_package_cant_take_a_registered_name(site: Path) -> None:
    install(site, "whispers-late", "whisper = whispers_late:Whisper")
    registry = text_models()
    registry.register("whisper", shout)
    with pytest.raises(PluginError, match=r"both module .*test_registry and whispers-late 1\.5"):
        registry.names()


def test_a_built_in_name_costs_no_search_of_installed_packages() -> None:
    program = (
        "import sys; from chakrasim.traces.shared.registry import Registry\n"
        "Registry('text model', {'title': 'string:capwords'}, 'chakrasim.test_texts').get('title')\n"
        "print('importlib.metadata' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
