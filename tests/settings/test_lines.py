"""The line of each key: whatever way TOML has to write it."""

import tomllib

import pytest

from edgeannot.settings.lines import line_of, lines_of_keys


def test_an_empty_text_has_no_lines():
    assert lines_of_keys("") == {}
    assert lines_of_keys("# only words\n\n") == {}


TEXT = '''# a comment with a = 1
a = 1
"b c" . d = """
x = 2
[no.section]
"""   # e = 3
lists = [
  "one", # 1
  { deep = [ 'two' ] },
]
inline = { x = 1, y.z = "}" }
[sources."front door"]
kind = "camera"
[[many]]
n = 1
[[many]]
n = 2
  [many.inner]
  when = 1979-05-27T07:32:00Z
[later.first]
v = 'a\\'
[later]
w = +1_000.5e-3
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 2),
        (("b c",), 3),
        (("b c", "d"), 3),
        (("lists",), 7),
        (("lists", 0), 8),
        (("lists", 1, "deep", 0), 9),
        (("inline", "y", "z"), 11),
        (("sources",), 12),
        (("sources", "front door"), 12),
        (("sources", "front door", "kind"), 13),
        (("many", 0, "n"), 15),
        (("many", 1, "n"), 17),
        (("many", 1, "inner", "when"), 19),
        (("later", "first", "v"), 21),
        (("later",), 22),
        (("later", "w"), 23),
    ],
)
def test_each_key_has_its_line(path, line):
    assert lines_of_keys(TEXT)[path] == line


def test_every_key_of_the_value_has_a_line():
    def keys(value, path=()):
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in pairs:
            yield (*path, key)
            yield from keys(inner, (*path, key))

    lines = lines_of_keys(TEXT)
    assert [path for path in keys(tomllib.loads(TEXT)) if path not in lines] == []


def test_a_key_that_is_not_there_has_the_line_of_the_section_round_it():
    lines = lines_of_keys(TEXT)

    assert line_of(("sources", "front door", "url"), lines) == 12
    assert line_of(("nowhere", "x"), lines) is None
