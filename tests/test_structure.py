"""What is counted of the code's structure, on little trees made for it."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise

import cv2
import pytest

from benchmarks.structure.__main__ import TOP, Code, listing, main, read_revision, read_tree, table
from benchmarks.structure.added import ADDED, SINCE, capability
from benchmarks.structure.plot import Plan, Room, levels, reached

TREE = {
    "edgeannot/__init__.py": '"""Names the version."""\n__version__ = "1"\n',
    "edgeannot/base/__init__.py": "",
    "edgeannot/base/errors.py": '"""Errors."""\n\n\nclass Wrong(Exception):\n    pass\n',
    "edgeannot/base/words.py": '"""Words."""\n',
    "edgeannot/run.py": "from edgeannot import __version__\nfrom edgeannot.base import errors, words\nimport os\n",
    "tools/edgeannot_tools/convert.py": "def go():\n    from edgeannot.base.errors import Wrong\n",
    "benchmarks/speed.py": "from edgeannot.base import words\nimport edgeannot.run\nimport edgeannot_tools.convert\n",
    "tests/test_run.py": "import edgeannot.base.words\n",
}


def row(code, name):
    return next(line for line in table({"now": code}) if line.strip().startswith(name)).removeprefix(name).split()[-1]


def arrows(code):
    return {(room.name, other) for room in code.rooms() for other in room.imports}


def one_importer(code):
    return [(module.path, by.path) for module, by in code.one_importer()]


def written(tmp_path, sources=TREE):
    for path, text in sources.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    return tmp_path


def test_nothing_is_counted_as_nothing(tmp_path):
    code = read_tree(tmp_path)

    assert row(code, "modules") == "0"
    assert row(code, "docstrings a public name") == "-"
    assert code.rooms() == []
    assert listing(code)
    assert main(["--draw", str(tmp_path / "empty.png")], top=tmp_path) == 0


def test_a_tree_has_modules_rooms_and_arrows_and_tests_are_left_out(tmp_path):
    code = read_tree(written(tmp_path))

    assert row(code, "modules") == "4"
    assert row(code, "with __init__") == "6"
    assert [room.name for room in code.rooms()] == ["base", "benchmarks", "run", "tools"]
    assert arrows(code) == {("run", "base"), ("tools", "base"), ("benchmarks", "base"), ("benchmarks", "run"), ("benchmarks", "tools")}


def test_an_import_counts_wherever_it_stands_but_not_from_benchmarks():
    # errors has two importers, one of them in a function; run and convert are imported by the benchmark alone
    assert one_importer(Code(TREE)) == [("edgeannot/base/words.py", "edgeannot/run.py")]


def test_a_package_is_imported_where_a_name_of_its_own_is():
    code = Code({"edgeannot/a/__init__.py": "from .b import f\n", "edgeannot/a/b.py": "", "edgeannot/c.py": "from edgeannot.a import f\n"})

    assert one_importer(code) == [("edgeannot/a/b.py", "edgeannot/a/__init__.py")]
    assert arrows(code) == {("c", "a")}


def test_a_module_loaded_by_its_name_has_an_arrow_but_no_importer():
    code = Code({"edgeannot/a.py": 'import importlib\nimportlib.import_module("edgeannot_tools.b")\n', "tools/edgeannot_tools/b.py": ""})

    assert arrows(code) == {("a", "tools")}
    assert one_importer(code) == []


def test_an_init_that_does_something_makes_a_room():
    code = Code({"edgeannot/__init__.py": "from edgeannot.a import f\n", "edgeannot/a.py": ""})

    assert arrows(code) == {("edgeannot", "a")}


def test_lines_of_code_are_without_blanks_comments_and_docstrings():
    text = '"""Two\nlines."""\n\n# a comment\nX = """a\n\nb"""  # 2\n\n\ndef f():\n    """Do it."""\n    return X\n'

    assert row(Code({"edgeannot/a.py": text}), "lines of code") == "4"
    assert row(Code({"benchmarks/a.py": text}), "lines of code") == "0"


def test_the_list_of_added_modules_names_what_is_there_once():
    now = read_tree(TOP).counted
    places = [place for paths in ADDED.values() for place in paths]

    there = {f"{module.path}::{name}" for module in now for name in module.defined()}
    assert [place for place in places if place not in there and not any(module.path.startswith(place) for module in now)] == []
    assert len(places) == len(set(places))
    assert not any(capability(place.partition("::")[0]) for place in places if "::" in place)  # its module counts as a whole
    assert capability("edgeannot/doctor/findings.py") == "doctor"
    assert capability("edgeannot/mqtt/client.py") == ""


def test_no_definition_counts_as_added_that_was_there_before():
    try:
        before = read_revision(TOP, SINCE).counted
    except subprocess.CalledProcessError:
        pytest.skip(f"the history does not reach back to {SINCE}")
    there = {name for module in before for name in module.defined()}

    assert there
    assert [place for paths in ADDED.values() for place in paths if place.partition("::")[2] in there] == []


def test_what_was_added_is_counted_apart():
    payload = 'Y = 1\nZ = 2\n\n\n@once\ndef event_payload():\n    """Do it."""\n    return Y\n'
    code = Code({"edgeannot/scene/a.py": "X = 1\n", "edgeannot/payload.py": payload})

    assert [line.split()[-1] for line in table({"now": code}) if "of the features" in line] == ["1", "2"]
    assert next(line for line in listing(code) if "tracking" in line).split()[:2] == ["1", "4"]


def test_private_names_need_no_docstring():
    text = '"""M."""\nclass C:\n    """C."""\n    def f(self):\n        def inner(): ...\n    def _g(self): ...\nif X:\n    def h(): "H."\n'

    assert row(Code({"edgeannot/a.py": text}), "docstrings a public name") == "0.750"
    assert row(Code({"edgeannot/_a.py": text}), "docstrings a public name") == "-"


def test_long_modules_and_crowded_folders_are_named_in_every_column():
    many = {f"edgeannot/{folder}/m{number}.py": "" for folder in ("heads", "probe") for number in range(16)}
    before = Code({**many, "edgeannot/probe/m0.py": "X = 1\n" * 351})

    lines = table({"before": before, "after": Code({"edgeannot/probe/m0.py": ""})})

    assert lines[-1].split() == ["edgeannot/probe/", "(limit", "15)", "16", "1"]
    assert row(before, "folders over their limit") == "1"
    assert "   351  edgeannot/probe/m0.py" in listing(before)
    assert "    16  edgeannot/probe/  15" in listing(before)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_revision_is_read_from_git(tmp_path, capsys):
    written(tmp_path)
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    (tmp_path / "edgeannot" / "run.py").unlink()

    assert table({"": read_revision(tmp_path, "HEAD")}) == table({"": Code({k: v for k, v in TREE.items() if not k.startswith("tests/")})})
    assert main(["HEAD", "."], top=tmp_path) == 0
    head, modules, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["HEAD", "working", "tree"]
    assert modules.split() == ["modules", "4", "3"]
    assert "no-such" in str(main(["no-such"], top=tmp_path))


def room(name, *imports):
    return Room(name, 1, 1, frozenset(imports))


def test_rooms_stand_above_what_they_import_and_those_in_a_circle_side_by_side():
    rooms = [room("low"), room("a", "b", "low"), room("b", "a"), room("top", "b"), room("alone", "tools"), room("tools", "low")]

    assert levels(rooms) == {"low": 0, "a": 1, "b": 1, "top": 2, "alone": 0, "tools": 3}
    assert [name for name, found in reached(rooms).items() if name in found] == ["a", "b"]


def test_arrows_to_one_room_share_a_lane_and_boxes_keep_apart():
    plan = Plan([room("low"), room("mid", "low"), room("top", "mid", "low"), room("benchmarks", "top", "mid", "low"), room("beside")])
    plan.arrange()

    assert [len(row) for row in plan.rows] == [2, 2, 3, 1]  # the second and third level: boxes, and lanes to what is further down
    assert plan.crossings() == 0
    for row in plan.rows:
        for left, right in pairwise(row):
            assert right.x - left.x >= (left.width + right.width) / 2 - 1e-6


def test_the_picture_is_written(tmp_path, capsys):
    assert main(["--list", "--draw", str(tmp_path / "rooms.png")], top=written(tmp_path)) == 0

    assert "== working tree" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "rooms.png")).std() > 10
