"""What a plug-in may import, and that the example imports no more."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib

import pytest

from edgeannot import plugin
from tests.conftest import ROOT
from tests.patience import DEADLINE_S

EXAMPLE = ROOT / "examples" / "edgeannot-example-plugin"
DOCS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_every_name_is_there_and_on_the_page():
    for name in plugin.__all__:
        assert hasattr(plugin, name), name
        assert f"`{name}`" in DOCS, name


def test_it_loads_neither_opencv_nor_the_runtime():
    code = "import sys, json, edgeannot.plugin\nprint(json.dumps([m for m in ('cv2', 'ai_edge_litert', 'paho') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True)

    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("path", sorted(EXAMPLE.rglob("*.py")), ids=lambda path: path.name)
def test_the_example_imports_the_one_module(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}

    assert {name for name in imported if name.split(".")[0].startswith("edgeannot")} <= {"edgeannot.plugin"}


def test_the_examples_settings_on_the_page_are_those_of_the_example():
    assert (EXAMPLE / "example.toml").read_text(encoding="utf-8") in DOCS
    groups = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for group, kinds in groups.items():
        for name, target in kinds.items():
            assert f'[project.entry-points."{group}"]\n{name} = "{target}"' in DOCS
