"""A hook of mkdocs: files of the repository that pages link to, `](../NAME)`, go into the site beside them.

mkdocs calls `on_files` and `on_page_markdown` (https://www.mkdocs.org/dev-guide/plugins/#events).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).resolve().parents[2]
_OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)([^)]*)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add each file that a page links to and that lies outside of docs/, as text: a browser shows it."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - only mkdocs itself calls this

    for page in files.documentation_pages():
        for target, _ in _OUTSIDE.findall(Path(page.abs_src_path).read_text(encoding="utf-8")):
            if (uri := _uri(target)) not in files.src_uris:
                files.append(File.generated(config, uri, content=_file(target).read_bytes()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its links outside of docs/ leading to these files."""
    return _OUTSIDE.sub(lambda link: f"]({_uri(link[1])})", markdown)


def _file(target: str) -> Path:
    """Return the file; of a package the one that describes it."""
    path = ROOT / target
    return path / "pyproject.toml" if path.is_dir() else path


def _uri(target: str) -> str:
    return f"repository/{_file(target).relative_to(ROOT)}.txt"
