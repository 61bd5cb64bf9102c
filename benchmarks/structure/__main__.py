"""Counts the structure of the code: modules, rooms, arrows. Several revisions stand side by side, to show before and after.

    .venv/bin/python -m benchmarks.structure [REVISION ...] [--list] [--draw FILE.png]

A revision is anything that git knows; `.` or none at all is the working tree. Sources are parsed, never run, and tests are left out.

Of edgeannot/ and tools/:

* modules: source files; `__init__` is shown apart.
* imported by exactly one other: by import statements wherever they stand (in functions and under TYPE_CHECKING, too); `from package
  import module` imports the module, not the package. An `__init__` may be that one other. What is reached by its name in a string (an entry
  point, a table of commands, import_module) is registered, not imported.
* lines of a module: all of them. Lines of code: without blank ones, comments and docstrings.

* of the features of 018ea29: the same without the modules and definitions of capabilities that this commit did not have, by the list in
  added.py. It has the names of today, so for revisions between the two this says nothing.

Of these and benchmarks/:

* docstrings a public name: modules, classes, functions and methods without an underscore in front, those with a docstring among all.
* lines of a function: from `def` to its end.
* folder over its limit: more than 15 modules; 25 where it is one contract with many kinds (KIND_FOLDERS).
* rooms: the folders and modules directly in edgeannot/, and tools/ and benchmarks/ as one each. An `__init__` without an import, a
  class and a function makes no room.
* arrows: ordered pairs of rooms of which one imports the other, however often. An import_module of a name that is written out reaches
  the other room as well as a statement does, and counts here.
* rooms in a circle: those that reach themselves along arrows.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import subprocess
import sys
import tarfile
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.structure.added import ADDED, SINCE, capability, definitions
from benchmarks.structure.plot import Room, reached, save_plot

__all__ = ["Code", "Module", "listing", "main", "read_revision", "read_tree", "table"]

TOP = Path(__file__).resolve().parents[2]
WORKING_TREE = "."
COUNTED = ("edgeannot", "tools")
ROOTS = (*COUNTED, "benchmarks")
LONG = 350
SMALL = (60, 100)
CROWDED, CROWDED_KINDS = 15, 25
KIND_FOLDERS = {"heads", "sources", "sinks", "subcommands", "commands", "convert"}
"""One contract with many kinds; `convert` has the conversion routes."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass(frozen=True)
class Module:
    """One source file; `path` is its place below the repository's top, with slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Parse the text."""
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Walk the tree once for all."""
        return list(ast.walk(self.tree))

    @property
    def is_init(self) -> bool:
        """Tell whether it is a package's own module."""
        return self.path.endswith("/__init__.py")

    @property
    def name(self) -> str:
        """Name it as an import does."""
        return self.path.removeprefix("tools/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def root(self) -> str:
        """Name the first folder of its path."""
        return self.path.split("/")[0]

    @property
    def folder(self) -> str:
        """Name the folder it lies in."""
        return self.path.rpartition("/")[0]

    @property
    def room(self) -> str:
        """Name the room it belongs to."""
        first, _, rest = self.path.partition("/")
        return first if first != "edgeannot" or rest == "__init__.py" else rest.split("/")[0].removesuffix(".py")

    @property
    def makes_a_room(self) -> bool:
        """Tell whether a room would be there with this module alone."""
        return not self.is_init or any(isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | Function) for node in self.tree.body)

    @property
    def lines(self) -> int:
        """Count all its lines."""
        return len(self.text.splitlines())

    @cached_property
    def code_lines(self) -> set[int]:
        """Number the lines that are not blank, a comment or part of a docstring."""
        found: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in NOT_CODE:
                found.update(range(token.start[0], token.end[0] + 1))
        for node in self.nodes:
            if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
                found.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
        return {number for number, line in enumerate(self.text.splitlines(), 1) if number in found and line.strip()}

    def defined(self) -> dict[str, range]:
        """Map its classes, their methods (CLASS.NAME) and its functions to their lines."""
        tops = [("", node) for node in self.tree.body]
        inside = [(f"{node.name}.", child) for node in self.tree.body if isinstance(node, ast.ClassDef) for child in node.body]
        found = [(before, node) for before, node in (*tops, *inside) if isinstance(node, ast.ClassDef | Function)]
        return {before + node.name: range(_first_line(node), (node.end_lineno or 0) + 1) for before, node in found}

    def added_lines_of_code(self, name: str = "") -> int:
        """Count the lines of code of added capabilities, or of this one: all of an added module, else those of added definitions."""
        if whole := capability(self.path):
            return len(self.code_lines) if name in ("", whole) else 0
        spans = self.defined()
        found = [spans[what] for what, whose in definitions(self.path).items() if what in spans and name in ("", whose)]
        return len(self.code_lines.intersection(number for span in found for number in span))

    def public(self) -> list[Documented]:
        """Collect what should have a docstring: the module, its classes and functions, their methods."""
        hidden = any(part.startswith("_") and part != "__init__.py" for part in self.path.split("/"))
        return [] if hidden else [self.tree, *_public(self.tree)]

    def function_lengths(self) -> list[int]:
        """Measure every function, method and function within one, in lines."""
        return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in self.nodes if isinstance(node, Function)]

    def imports(self) -> Iterator[tuple[str, str]]:
        """Yield what import statements ask for: the name of a module and, after `from`, a name in it."""
        package = self.name.split(".")[: None if self.is_init else -1]
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                yield from ((base, alias.name) for alias in node.names)

    def loads(self) -> Iterator[tuple[str, str]]:
        """Yield what is asked for by import_module("name")."""
        for node in self.nodes:
            match node:
                case ast.Call(func=ast.Name("import_module") | ast.Attribute(attr="import_module"), args=[ast.Constant(str(name)), *_]):
                    yield name, ""


def _first_line(node: ast.ClassDef | Function) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _public(scope: ast.AST) -> Iterator[Documented]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.ClassDef | Function):
            if not node.name.startswith("_") and "overload" not in map(ast.unparse, node.decorator_list):
                yield node
                if isinstance(node, ast.ClassDef):
                    yield from _public(node)
        elif not isinstance(node, ast.expr):
            yield from _public(node)  # a class under `if`, a function under `try`


class Code:
    """All sources of one revision, and what imports what in them."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.modules = [Module(path, text) for path, text in sorted(sources.items())]
        self._named = {module.name: module for module in self.modules}

    @property
    def counted(self) -> list[Module]:
        """Leave out the benchmarks."""
        return [module for module in self.modules if module.root in COUNTED]

    def _known(self, names: Iterator[tuple[str, str]], besides: Module) -> list[Module]:
        found = [self._named.get(f"{base}.{name}") or self._named.get(base) for base, name in names]
        return [module for module in dict.fromkeys(found) if module is not None and module != besides]

    def one_importer(self) -> list[tuple[Module, Module]]:
        """Pair each module that exactly one other imports with that one, the smallest first."""
        importers: dict[Module, list[Module]] = {}
        for module in self.counted:
            for other in self._known(module.imports(), module):
                importers.setdefault(other, []).append(module)
        pairs = [(module, by[0]) for module, by in importers.items() if len(by) == 1 and not module.is_init]
        return sorted(pairs, key=lambda pair: (pair[0].lines, pair[0].path))

    def long_modules(self) -> list[Module]:
        """List the modules with too many lines, the longest first."""
        return sorted((module for module in self.modules if module.lines > LONG), key=lambda module: -module.lines)

    def folders(self) -> Counter[str]:
        """Count the modules that lie directly in each folder, without `__init__`."""
        return Counter(module.folder for module in self.modules if not module.is_init)

    def crowded(self) -> list[str]:
        """List the folders over their limit."""
        return sorted(folder for folder, number in self.folders().items() if number > limit(folder))

    def rooms(self) -> list[Room]:
        """Measure each room and say which others it imports."""
        present = {module.room for module in self.modules if module.makes_a_room}
        rooms = []
        for name in sorted(present):
            inside = [module for module in self.modules if module.room == name]
            asked = [other.room for module in inside for other in self._known(iter([*module.imports(), *module.loads()]), module)]
            count = sum(not module.is_init for module in inside)
            rooms.append(Room(name, count, sum(module.lines for module in inside), frozenset(asked) & present - {name}))
        return rooms


def limit(folder: str) -> int:
    """Say how many modules may lie in a folder."""
    return CROWDED_KINDS if folder.rpartition("/")[2] in KIND_FOLDERS else CROWDED


def read_tree(top: Path) -> Code:
    """Read what lies on the disk."""
    files = (path for root in ROOTS for path in (top / root).rglob("*.py"))
    return Code({path.relative_to(top).as_posix(): path.read_text(encoding="utf-8") for path in files})


def read_revision(top: Path, revision: str) -> Code:
    """Read what git has of it; CalledProcessError where it has none."""
    present = [root for root in ROOTS if root in _git(top, "ls-tree", "--name-only", revision).decode().split("\n")]
    if not present:
        return Code({})
    with tarfile.open(fileobj=io.BytesIO(_git(top, "archive", "--format=tar", revision, *present))) as archive:
        files = [(member.name, archive.extractfile(member)) for member in archive if member.name.endswith(".py")]
        return Code({name: file.read().decode() for name, file in files if file is not None})


def _git(top: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(top), *arguments], check=True, capture_output=True).stdout


def figures(code: Code) -> dict[str, str]:
    """Give each row of the table its figure."""
    modules, pairs, rooms = code.counted, code.one_importer(), code.rooms()
    public = [ast.get_docstring(node) is not None for module in code.modules for node in module.public()]
    lengths = [length for module in code.modules for length in module.function_lengths()]
    old = [module for module in modules if not capability(module.path)]
    return {
        "modules": f"{sum(not module.is_init for module in modules)}",
        f"  modules of the features of {SINCE}": f"{sum(not module.is_init for module in old)}",
        "  with __init__": f"{len(modules)}",
        "  imported by exactly one other": f"{len(pairs)}",
        **{f"    and under {size} lines": f"{sum(module.lines < size for module, _ in pairs)}" for size in SMALL},
        "lines of code": f"{sum(len(module.code_lines) for module in modules):,}",
        f"  lines of the features of {SINCE}": f"{sum(len(module.code_lines) - module.added_lines_of_code() for module in old):,}",
        "docstrings a public name": f"{sum(public) / len(public):.3f}" if public else "-",
        "lines of a function, median": f"{statistics.median(lengths):g}" if lengths else "-",
        f"modules over {LONG} lines": f"{len(code.long_modules())}",
        "rooms": f"{len(rooms)}",
        "arrows": f"{sum(len(room.imports) for room in rooms)}",
        "rooms in a circle": f"{sum(name in found for name, found in reached(rooms).items())}",
        "folders over their limit": f"{len(code.crowded())}",
    }


def table(columns: Mapping[str, Code]) -> list[str]:
    """Write the figures as lines, one column a revision; a folder that is crowded in one has a line for all."""
    found = {title: figures(code) for title, code in columns.items()}
    folders = {title: code.folders() for title, code in columns.items()}
    rows = [("", *columns)]
    rows += [(row, *(column[row] for column in found.values())) for row in next(iter(found.values()), {})]
    for folder in sorted({folder for code in columns.values() for folder in code.crowded()}):
        rows.append((f"  {folder}/ (limit {limit(folder)})", *(str(count.get(folder, "-")) for count in folders.values())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def listing(code: Code) -> list[str]:
    """Name the modules and folders behind the figures."""
    lines = ["Imported by exactly one other (lines, module, importer):"]
    lines += [f"{module.lines:6}  {module.path}  <-  {by.path}" for module, by in code.one_importer()]
    lines += [f"Modules over {LONG} lines:", *(f"{module.lines:6}  {module.path}" for module in code.long_modules())]
    lines += [f"Capabilities added since {SINCE} (modules, lines of code):"]
    for name in ADDED:
        added = sum(capability(module.path) == name and not module.is_init for module in code.counted)
        lines.append(f"{added:6}  {sum(module.added_lines_of_code(name) for module in code.counted):6,}  {name}")
    lines += ["Folders over their limit (modules, folder, limit):"]
    lines += [f"{code.folders()[folder]:6}  {folder}/  {limit(folder)}" for folder in code.crowded()]
    return lines


def main(arguments: Sequence[str] | None = None, top: Path = TOP) -> int | str:
    """Print the table, and list and draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", metavar="REVISION", nargs="*", help="of git, or . for the working tree (the default)")
    parser.add_argument("--list", action="store_true", help="name the modules and folders behind the figures")
    parser.add_argument("--draw", type=Path, metavar="FILE.png", help="draw rooms and arrows of the last revision")
    args = parser.parse_args(arguments)
    columns: dict[str, Code] = {}
    for revision in args.revisions or [WORKING_TREE]:
        try:
            if revision == WORKING_TREE:
                columns["working tree"] = read_tree(top)
            else:
                columns[revision] = read_revision(top, revision)
        except subprocess.CalledProcessError as exc:
            return f"{revision}: {exc.stderr.decode(errors='replace').strip()}"
    print("\n".join(table(columns)))
    for title, code in columns.items():
        if args.list:
            print("\n".join(["", f"== {title}", *listing(code)]))
    if args.draw:
        save_plot(list(columns.values())[-1].rooms(), args.draw)
    return 0


if __name__ == "__main__":
    sys.exit(main())
