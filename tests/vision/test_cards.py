"""Cards: read strictly, found by name, refused when they disagree with their files."""

import hashlib

import pytest

from edgeannot.base.errors import CardError, ModelError
from edgeannot.vision.cards import find_card, read_card, read_cards

CARD = """
schema = 1
name = "{name}"
file = "m.tflite"
sha256 = "{sha}"
task = "detect"
family = "yolo"
[input]
width = 416
height = 416
sizes = [224, 416]
[head]
kind = "yolo-grid"
[[head.grids]]
output = 0
anchors = [[81, 82], [135, 169], [344, 319]]
[labels]
names = ["person", "bicycle"]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"model")
    write(tmp_path, "tiny")
    return tmp_path


def write(folder, name, text=CARD):
    path = folder / f"{name}.toml"
    path.write_text(text.format(name=name, sha=hashlib.sha256(b"model").hexdigest()))
    return path


def test_an_empty_folder_has_no_cards(tmp_path):
    assert list(read_cards([tmp_path])) == []


def test_a_card_is_found_by_name_and_by_size(folder):
    assert find_card("tiny", [folder]).input_wh == (416, 416)

    small = find_card("tiny@224", [folder])
    assert (small.name, small.input_wh) == ("tiny@224", (224, 224))
    assert small.model_path == folder / "m.tflite"
    assert find_card("tiny@416", [folder]).input_wh == (416, 416)


def test_a_size_that_is_not_offered_is_refused_with_those_that_are(folder):
    with pytest.raises(CardError, match="input size '300' is not offered; choose from: 224, 416"):
        find_card("tiny@300", [folder])


def test_an_unknown_name_lists_the_known_ones(folder):
    with pytest.raises(ModelError, match="no model called 'big'; known are: tiny"):
        find_card("big", [folder])


@pytest.mark.parametrize("size", ["", "0", "-1", "big", "\u00b2", "224x224", "9" * 5000])
def test_a_word_that_is_no_size_is_refused_too(folder, size):
    with pytest.raises(CardError, match="is not offered; choose from: 224, 416"):
        find_card(f"tiny@{size}", [folder])


def test_a_card_that_cannot_be_read_is_no_obstacle_to_the_others_and_is_told(folder):
    (folder / "broken.toml").write_text("garbage =")
    (folder / "folder.toml").mkdir()
    told = []

    assert find_card("tiny", [folder]).name == "tiny"
    assert [card.name for card in read_cards([folder], told.append)] == ["tiny"]
    assert [("broken.toml" in str(exc), "folder.toml" in str(exc)) for exc in told] == [(True, False), (False, True)]
    with pytest.raises(CardError, match=r"broken\.toml is not valid TOML"):
        find_card("broken", [folder])
    with pytest.raises(CardError, match=r"broken\.toml is not valid TOML"):
        list(read_cards([folder]))


def test_a_card_that_cannot_be_read_does_not_make_room_for_another_of_its_name(folder, tmp_path_factory):
    own = tmp_path_factory.mktemp("own")
    (own / "tiny.toml").write_text("garbage =")

    with pytest.raises(CardError, match="not valid TOML"):
        find_card("tiny@224", [own, folder])


def test_a_card_is_found_by_its_name_where_its_file_has_another(folder):
    (folder / "tiny.toml").rename(folder / "other.toml")

    assert find_card("tiny", [folder]).name == "tiny"


def test_the_first_folder_wins(folder, tmp_path_factory):
    own = tmp_path_factory.mktemp("own")
    write(own, "tiny", CARD.replace('"person"', '"cat"'))

    assert [card.labels.names[0] for card in read_cards([own, folder])] == ["cat"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "{name}"', 'name = "' + "9" * 201 + '"', "name: wanted text of at most 200 characters"),
        ("width = 416", "widht = 416", r"input\.width: wanted a value"),
        ("sizes = [224, 416]", "sise = [224]", r"input\.sise: unknown field"),
        ("schema = 1", "schema = 2", r"schema: wanted 1, found 2"),
        ('kind = "yolo-grid"', 'kind = "yolo"', "yolo"),
        ("height = 416", 'height = 416\ncolor = "GRAY"', "GRAY"),
        ("height = 416", "height = 416\nmean = [1, 2]", "wanted 1 or 3 numbers, found 2"),
        ("[input]", "[input", "not valid TOML"),
    ],
)
def test_a_wrong_card_names_the_file_and_the_field(folder, old, new, said):
    path = write(folder, "wrong", CARD.replace(old, new))

    with pytest.raises(CardError, match=said) as caught:
        read_card(path)
    assert "wrong.toml" in str(caught.value)


def test_a_model_file_that_is_not_the_cards_is_refused(folder):
    card = find_card("tiny", [folder])
    card.verify_file()
    (folder / "m.tflite").write_bytes(b"another")

    with pytest.raises(CardError, match="the card says"):
        card.verify_file()


def test_a_missing_model_file_is_refused(folder):
    card = find_card("tiny", [folder])
    (folder / "m.tflite").unlink()

    with pytest.raises(CardError, match="cannot be read"):
        card.verify_file()


def test_a_missing_label_file_is_said(folder):
    card = read_card(write(folder, "l", CARD.replace('names = ["person", "bicycle"]', 'file = "none.txt"')))

    with pytest.raises(CardError, match="label file"):
        card.label_names()


def test_an_empty_label_file_is_said(folder):
    card = read_card(write(folder, "l", CARD.replace('names = ["person", "bicycle"]', 'file = "none.txt"')))
    (folder / "none.txt").write_text("\n\n")

    with pytest.raises(CardError, match=r"label file .* is empty"):
        card.label_names()


def test_a_copy_of_a_card_keeps_the_folder_and_another_can_be_given(folder):
    card = read_card(folder / "tiny.toml")

    assert card.model_copy(update={"name": "other"}).folder == folder
    assert card.in_folder(folder / "new").model_path == folder / "new" / card.file
    assert card.folder == folder
