"""The catalogue that ships, and what a catalogue has to state."""

from __future__ import annotations

import hashlib
import re

import pytest
from typer.main import get_command

from edgeannot.base.errors import ConfigError, MissingError, ModelError
from edgeannot.base.places import bundled_folder
from edgeannot.cli.commands.models import models_app
from edgeannot.library.catalogue import NAME_LISTS, Entry, class_names, find_entry, read_catalogue
from edgeannot.vision.cards import read_cards
from tests.docs_pages import DOCS

FILE = {"name": "m.tflite", "sha256": "0" * 64, "known_from": "seen", "sources": [{"url": "https://example.org/m.tflite"}]}
ENTRY = {
    "name": "m", "description": "d", "task": "detect", "family": "ssd", "input": 32, "license": "MIT", "license_from": "x", "files": [FILE],
}  # fmt: skip


def entry(**fields):
    return Entry.model_validate({**ENTRY, **fields})


def sources():
    return [source for item in read_catalogue().values() for file in item.files for source in file.sources]


def test_the_models_that_were_asked_for_most_are_there():
    there = read_catalogue()

    assert {"ssd-mobilenet-v1-coco", "ssd-mobilenet-v2-coco", "efficientdet-lite0", "yolo-fastest-1.1", "mobilenet-v1-quant"} <= set(there)
    assert {"efficientdet-lite1", "efficientdet-lite2", "mobilenet-v2-quant", "mobilenet-v1-embedding"} <= set(there)


def test_networks_that_are_made_int8_on_the_spot_are_there_with_the_facts_that_their_files_lack():
    made = {item.name: item for item in read_catalogue().values() if item.quantize}

    assert set(made) == {"yolox-nano", "yolox-tiny", "nanodet-plus-m-416", "efficientnet-lite2"}
    assert all(item.converted and item.license == "Apache-2.0" and item.main.sha256 for item in made.values())
    assert {name for name, item in made.items() if item.main.name.endswith(".onnx")} == set(made) - {"efficientnet-lite2"}
    assert all(item.card.input_range and item.card.color and item.card.resize for item in made.values() if item.task == "detect")


def test_what_has_no_published_hash_says_so_before_it_is_asked_for():
    without = {item.name for item in read_catalogue().values() for file in item.files if file.sha256 is None}

    assert without == {"efficientdet-lite1"}
    assert "--pin" in find_entry("efficientdet-lite1", read_catalogue()).note


def test_no_name_is_a_bundled_models():
    assert not set(read_catalogue()) & {card.name for card in read_cards([bundled_folder()])}


def test_every_licence_is_stated_and_none_binds_who_runs_the_model():
    for item in read_catalogue().values():
        assert re.fullmatch(r"[A-Za-z0-9.+-]+", item.license), item.name
        assert "GPL" not in item.license
        assert item.license_from


def test_addresses_are_encrypted_and_no_package_registry_is_written_down():
    """Packages come through pip and npm, whose own settings name the registry."""
    for source in sources():
        if source.url is not None:
            assert source.url.startswith("https://")
            assert not re.search(r"pypi|pythonhosted|npmjs|registry", source.url)


def test_files_at_addresses_that_can_change_are_held_by_their_hash_only_where_they_have_no_pinned_address_first():
    """A branch's file may change: it stands second, or it is pinned by a commit, a tag or a dated folder."""
    for item in read_catalogue().values():
        for file in item.files:
            assert "/master/" not in (file.sources[0].url or ""), file.name


@pytest.mark.parametrize(
    ("name", "count"), [("coco80", 80), ("coco90", 90), ("imagenet1000", 1000), ("imagenet1001", 1001), ("oid24", 24), ("voc20", 20)]
)
def test_name_lists_have_a_name_for_every_class(name, count):
    names = class_names(entry(names=name))

    assert name in NAME_LISTS
    assert len(names) == count
    assert all(names)


def test_the_names_of_openimages_are_those_of_the_file_that_comes_with_the_model():
    """Bytes 0 to 184 of the assets that the catalogue takes the model from; where the file was made, their hash was this."""
    text = "".join(f"{name}\n" for name in class_names(entry(names="oid24")))

    assert hashlib.sha256(text.encode()).hexdigest() == "c148336a65f673013609a923fdcbdeec0f49df935045029c3746a3828a0e80e0"


def test_name_lists_are_those_of_the_label_files_that_go_round(data_dir):
    def lines(file):
        return tuple((data_dir / "models" / file).read_text().splitlines())

    for name, file in (("coco80", "labels_coco80.txt"), ("coco90", "labels_coco90_zero_based.txt"), ("voc20", "labels_voc20.txt")):
        assert class_names(entry(names=name)) == lines(file)
    for ours, theirs in zip(class_names(entry(names="imagenet1001")), lines("labels_imagenet1001.txt"), strict=True):
        synonyms = [word.strip() for word in theirs.split(",")]
        assert ours.split(" (")[0].replace(" ", "") in [word.replace(" ", "") for word in synonyms]


def test_hashes_and_sizes_are_those_of_the_files_at_hand(data_dir):
    """What the list says was run or converted is what lies in the test data, byte for byte."""
    rows = [line.split("\t") for line in (data_dir / "MANIFEST.tsv").read_text().splitlines()]
    there = {row[1]: int(row[2]) for row in rows[1:]}
    found = [file for item in read_catalogue().values() for file in item.files if file.sha256 in there]

    assert len(found) >= 10
    for file in found:
        assert file.bytes == there[file.sha256], file.name


def models_page():
    return (DOCS / "models.md").read_text(encoding="utf-8").partition("## From the catalogue")[2].partition("\n## ")[0]


def test_the_models_page_names_every_model_every_option_and_every_list_of_names():
    page = models_page()
    options = {option for parameter in get_command(models_app).commands["pull"].params for option in parameter.opts if option[:2] == "--"}

    for word in (*read_catalogue(), *(options - {"--data-dir", "--help"})):
        assert f"`{word}" in page, word
    for name in NAME_LISTS:
        assert name in page, name


def test_the_list_of_the_models_page_is_valid(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", models_page(), re.DOTALL)
    (tmp_path / "c.toml").write_text(text)

    assert list(read_catalogue(tmp_path / "c.toml")) == ["our-detector"]


def test_an_empty_catalogue_has_no_models(tmp_path):
    (tmp_path / "c.toml").write_text("schema = 1\n")

    assert read_catalogue(tmp_path / "c.toml") == {}
    with pytest.raises(ModelError, match="'m'; there are: none"):
        find_entry("m", {})


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(ModelError, match=r"'yolo9000'; there are: ssd-mobilenet-v1-coco, "):
        find_entry("yolo9000", read_catalogue())


def test_no_catalogue_is_said(tmp_path):
    with pytest.raises(MissingError, match=r"none\.toml is not there"):
        read_catalogue(tmp_path / "none.toml")


TABLE = """schema = 1
[[model]]
name = "m"
description = "d"
task = "detect"
family = "ssd"
input = 32
license = "MIT"
license_from = "x"
[[model.files]]
name = "m.tflite"
sha256 = "%s"
known_from = "seen"
sources = [{ url = "https://example.org/m.tflite" }]
""" % ("0" * 64)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema = 1", "schema = 2", "schema: "),
        ("schema = 1", "schema = ", "not valid TOML"),
        ('"detect"', '"find"', r"model.0.task.*'find'"),
        ('license = "MIT"\n', "", "model.0.license: wanted a value"),
        ("0" * 64, "abc", "model.0.files.0.sha256"),
        ("https://example.org/m.tflite", "ftp://example.org/m", "sources.0.url"),
        ("https://example.org/", "https://example.org/x/", None),
        ('url = "https://example.org/m.tflite"', "", "exactly one of url, pip and npm"),
        ('url = "https://example.org/m.tflite"', 'pip = "m==1"', "wanted the file inside the package"),
        ('url = "https://example.org/m.tflite"', 'pip = "m", member = "x"', "sources.0.pip"),
        ('url = "https://example.org/m.tflite"', 'npm = "m@latest", member = "x"', "sources.0.npm"),
        ('url = "https://example.org/m.tflite"', 'pip = "m==1", member = "../x"', r"without '\.\.'"),
        ('name = "m.tflite"', 'name = "../m.tflite"', "files.0.name"),
        ('name = "m"', 'name = "M"', "model.0.name"),
        ("input = 32", 'input = 32\nnames = "coco"', "coco80, coco90"),
        ("input = 32", "input = 32\ncolour = 1", "model.0.colour"),
    ],
)
def test_a_wrong_catalogue_says_where(tmp_path, old, new, said):
    path = tmp_path / "c.toml"
    path.write_text(TABLE.replace(old, new, 1))

    if said is None:
        assert list(read_catalogue(path)) == ["m"]
    else:
        with pytest.raises(ConfigError, match=rf"c\.toml.*{said}"):
            read_catalogue(path)


def test_two_models_of_one_name_are_refused(tmp_path):
    (tmp_path / "c.toml").write_text(TABLE + TABLE.partition("\n")[2])

    with pytest.raises(ConfigError, match="two models called m"):
        read_catalogue(tmp_path / "c.toml")
