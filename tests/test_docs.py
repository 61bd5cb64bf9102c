"""What the documents say is what the code does."""

from __future__ import annotations

import re
import tomllib

import pytest

from edgeannot.settings import Settings
from edgeannot.vision.cards import CARD_SCHEMA, ModelCard
from edgeannot.vision.heads import HEADS
from tests.docs_pages import DOCS, settings_page

README = DOCS.parent / "README.md"


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_settings_page_is_made_from_the_code():
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_page(), "run `make docs`"


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_settings_of_the_readme_are_valid():
    (text,) = blocks(README, "toml")

    settings = Settings(**tomllib.loads(text))
    assert settings.sources["porch"].kind == "camera"


def test_the_settings_of_the_fleet_page_are_valid():
    (text,) = blocks(DOCS / "fleet.md", "toml")

    settings = Settings(**tomllib.loads(text))
    assert (settings.sources["pictures"].kind, settings.sources["pictures"].group) == ("mqtt", "fleet")


def test_the_settings_of_the_webhook_page_are_valid():
    (text,) = blocks(DOCS / "webhook.md", "toml")

    settings = Settings(**tomllib.loads(text))
    assert (settings.sinks.webhook.enabled, settings.sinks.mqtt.enabled) == (True, False)


def test_the_card_of_the_models_page_is_valid():
    (text,) = [block for block in blocks(DOCS / "models.md", "toml") if "[head]" in block]

    card = ModelCard.model_validate(tomllib.loads(text.replace('"…"', f'"{"0" * 64}"')))
    assert card.schema_ == CARD_SCHEMA


def test_every_kind_of_head_is_on_the_models_page():
    page = (DOCS / "models.md").read_text(encoding="utf-8")

    for kind in HEADS.built_in:
        assert f"`{kind}`" in page, kind
