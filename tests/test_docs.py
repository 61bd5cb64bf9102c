"""What the documents say is what the code does."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from edgeannot.vision.cards import CARD_SCHEMA, ModelCard
from edgeannot.vision.heads import HEADS
from tests.docs_pages import DOCS, GENERATED

README = DOCS.parent / "README.md"
PAGES = [README, *(README.with_name(f"{name}.md") for name in ("CONTRIBUTING", "CHANGELOG")), *sorted(DOCS.glob("*.md"))]


def blocks(path, language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for marked, text in found if marked == language]


@pytest.mark.parametrize("page", ["settings.md", "commands.md", "reference.md"])  # boards.md has its test beside the recorded boards
def test_a_generated_page_is_made_from_the_code(page):
    assert (DOCS / page).read_text(encoding="utf-8") == GENERATED[page](), "run `make docs`"


def anchors(page):
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    return re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    for target, anchor in links(page):
        leads_to = page.parent / target if target else page
        assert leads_to.exists(), target
        assert not anchor or anchor in anchors(leads_to), f"{target}#{anchor}"


def test_the_card_of_the_models_page_is_valid():
    (text,) = [block for block in blocks(DOCS / "models.md", "toml") if "[head]" in block]

    card = ModelCard.model_validate(tomllib.loads(text.replace('"…"', f'"{"0" * 64}"')))
    assert card.schema_ == CARD_SCHEMA


def test_every_kind_of_head_is_on_the_models_page():
    page = (DOCS / "models.md").read_text(encoding="utf-8")

    for kind in HEADS.built_in:
        assert f"`{kind}`" in page, kind


def layout_rows():
    section = (DOCS / "design.md").read_text(encoding="utf-8").partition("\n## 2. Layout")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([a-z_/]+|[a-z_]+\.py)` \| (.*) \|$", section, re.MULTILINE))


def test_the_layout_names_each_module_once():
    """A folder has a row with all its modules, so that a newcomer finds the module for a line of code."""
    package, rows = DOCS.parent / "edgeannot", layout_rows()

    for folder in {path.parent for path in package.rglob("*.py")} - {package}:
        row = f"{folder.relative_to(package).as_posix()}/"
        named = re.findall(r"`([a-z_0-9]+)`", rows.get(row, ""))
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert sorted(named) == sorted(modules), f"docs/design.md, section 2, the row of {row}"
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert modules == {row for row in rows if row.endswith(".py")}


def test_the_glossary_is_short_and_says_where_each_term_lives():
    glossary = (DOCS / "design.md").read_text(encoding="utf-8").partition("\n## 6. Glossary")[2]
    rows = re.findall(r"^\| ([a-z][a-z -]*) \| .* \| `([a-z_/.]+)` \|$", glossary, re.MULTILINE)
    terms = [term for term, _ in rows]

    assert "source" in terms
    assert terms == sorted(terms)
    assert len(terms) <= 40
    for term, place in rows:
        assert (DOCS.parent / place).exists() or (DOCS.parent / "edgeannot" / place).exists(), term


def test_the_site_names_every_page_once():
    def pages(part):
        return (
            [part]
            if isinstance(part, str)
            else [page for each in part for page in pages(each.values() if isinstance(each, dict) else each)]
        )

    config = yaml.load((DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)

    named = pages([*config["nav"]])
    assert sorted(named) == sorted(page.name for page in DOCS.glob("*.md"))
    assert {target for target, _ in links(DOCS / "index.md")} >= {*named} - {"index.md"}
