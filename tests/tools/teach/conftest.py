"""A small network that describes a picture by its colours, with the head `embed`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeannot.library.modelstore import card_toml
from edgeannot.vision.cards import Input, ModelCard
from edgeannot.vision.heads.embed import Embed
from edgeannot_tools.graph.writer import Net
from edgeannot_tools.teach.command import teach_app

SIDE = 32


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """A data directory with the embedding model `colors`: edges of colours, averaged; float, made with our own writer."""
    rng = np.random.default_rng(3)
    net = Net()
    x = net.input("images", (1, SIDE, SIDE, 3))
    y = net.conv("edges", x, rng.normal(size=(16, 3, 3, 3)).astype(np.float32), np.zeros(16, np.float32), stride=2, activation="relu")
    raw = net.outputs([net.mean_hw("embedding", y, keep_dims=False)]).to_bytes()
    models = tmp_path / "state" / "models"
    models.mkdir(parents=True)
    (models / "colors.tflite").write_bytes(raw)
    card = ModelCard(
        schema=1,
        name="colors",
        file="colors.tflite",
        sha256=hashlib.sha256(raw).hexdigest(),
        task="embed",
        family="other",
        input=Input(width=SIDE, height=SIDE),
        head=Embed(),
    )
    (models / "colors.toml").write_text(card_toml(card))
    return tmp_path / "state"


@pytest.fixture
def teach(data_dir, monkeypatch):
    """Run `edgeannot teach classify` on the model `colors`, which these tests made themselves: a trial of it takes a second each time."""

    def run(*words: object, backbone: str = "colors", trial: bool = False):
        if not trial:
            monkeypatch.setattr("edgeannot_tools.teach.classify.backbone.prove_foreign", lambda card, runtime: None)
            monkeypatch.setattr("edgeannot_tools.teach.install.prove", lambda card, runtime: None)
        return CliRunner().invoke(teach_app, ["classify", *map(str, words), "--backbone", backbone, "--data-dir", str(data_dir)])

    return run
