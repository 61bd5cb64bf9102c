"""The linter sees import statements only: no module of edgeannot may reach a layer that it must not import by the name in a string."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "edgeannot"
MODULES = sorted(path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py"))

IMPORTERS = {"edgeannot/base/registry.py", "edgeannot/vision/engine.py"}
"""Who imports by name: what other packages registered, and the runtimes."""
LOADERS = {"import_module", "__import__", "spec_from_file_location", "run_module", "run_path", "exec", "eval", "find_loader"}

CHILDREN = {
    "edgeannot/choice/measure.py": "edgeannot.choice.measure_child",
    "edgeannot/doctor/models.py": "edgeannot.doctor.model_child",
    "edgeannot/sources/capture_process.py": "edgeannot.sources.capture_child",
    "edgeannot/trial/loads.py": "edgeannot.trial.trial_child",
}
"""Modules that are run in a process of their own, each by a module of its own folder."""

GROUPS = {f"edgeannot.{group}" for group in ("sources", "sinks", "heads", "commands", "converters", "quantizers")}
"""Names of entry points, which some modules have as well."""
UNIT = "edgeannot.service"
"""The systemd unit, whose name a folder has as well."""


def text_of(module):
    return (PACKAGE.parent / module).read_text(encoding="utf-8")


def module_names(tree):
    """Strings of the code that name a module of ours."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and text not in {*GROUPS, UNIT} and re.fullmatch(r"edgeannot[a-z_]*(\.\w+)+(:[\w.]+)?", text):
            path = PACKAGE.parent / text.partition(":")[0].replace(".", "/")
            if path.is_dir() or path.with_suffix(".py").is_file():
                yield text


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_loaded_by_a_string(module):
    text = text_of(module)
    tree = ast.parse(text)
    calls = {getattr(node.func, "attr", getattr(node.func, "id", "")) for node in ast.walk(tree) if isinstance(node, ast.Call)}

    assert "edgeannot_tools" not in text
    assert "edgeannot_maintain" not in text
    assert module in IMPORTERS or not calls & LOADERS
    assert [name for name in module_names(tree) if name != CHILDREN.get(module)] == []


def test_the_search_finds_what_it_is_for():
    assert list(module_names(ast.parse('load("edgeannot.cli.app:main")'))) == ["edgeannot.cli.app:main"]
    assert list(module_names(ast.parse('load("edgeannot.toml")'))) == []


@pytest.mark.parametrize(("module", "child"), CHILDREN.items())
def test_a_child_is_run_by_a_module_of_its_own_folder(module, child):
    assert module.rpartition("/")[0].replace("/", ".") == child.rpartition(".")[0]
