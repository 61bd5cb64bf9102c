"""Classes of a model and of a set meet by name, or as a mapping says."""

import pytest

from edgeannot.base.errors import InputError, MissingError
from edgeannot_tools.evaluate.measure import common_classes, match_classes, read_mapping


def test_nothing_in_common_is_an_error_that_says_what_to_do():
    with pytest.raises(InputError, match=r"no class of the model \(Boot\).*--class-map"):
        match_classes(["Boot"], ["person"])


@pytest.mark.parametrize(("ours", "theirs"), [("Person", "person"), ("dining table", "diningtable"), ("cell_phone", "Cell-Phone")])
def test_case_and_spaces_make_no_difference(ours, theirs):
    assert match_classes([ours], ["x", theirs]).set_class_of == {ours: 1}


def test_what_is_left_out_is_listed():
    match = match_classes(["???", "Person", "Boot"], ["dog", "person"], ignore=("???",))

    assert match.set_class_of == {"Person": 1}
    assert match.only_model == ("Boot",)
    assert match.only_set == ("dog",)
    assert not match.merged


def test_several_labels_may_stand_for_one_class():
    match = match_classes(["Man", "Woman", "Dog"], ["person", "dog"], {"Man": "person", "Woman": "person"})

    assert match.set_class_of == {"Man": 0, "Woman": 0, "Dog": 1}
    assert match.merged


def test_an_empty_name_leaves_a_class_out():
    match = match_classes(["cat", "dog"], ["cat", "dog"], {"dog": ""})

    assert match.set_class_of == {"cat": 0}
    assert match.only_set == ("dog",)


@pytest.mark.parametrize("mapping", [{"Mann": "person"}, {"Man": "persona"}])
def test_a_mapping_of_unknown_names_is_refused(mapping):
    with pytest.raises(InputError, match="which it does not have; it has: "):
        match_classes(["Man"], ["person"], mapping)


def test_common_classes_are_those_of_all_models():
    names = ["person", "dog", "cat"]
    one, other = match_classes(["person", "dog"], names), match_classes(["Person", "cat"], names)

    cut = common_classes([one, other], names)

    assert [match.set_class_of for match in cut] == [{"person": 0}, {"Person": 0}]
    assert [match.not_common for match in cut] == [("dog",), ("cat",)]
    assert cut[0].only_set == ("dog", "cat")


def test_models_without_a_common_class_cannot_be_compared():
    names = ["dog", "cat"]
    with pytest.raises(InputError, match="no class of the set in common"):
        common_classes([match_classes(["dog"], names), match_classes(["cat"], names)], names)


def test_a_mapping_file_is_read(tmp_path):
    path = tmp_path / "map.toml"
    path.write_text('[classes]\n"Man" = "person"\n')

    assert read_mapping(path) == {"Man": "person"}


def test_a_missing_or_malformed_mapping_is_an_error(tmp_path):
    path = tmp_path / "map.toml"
    with pytest.raises(MissingError, match="is not there"):
        read_mapping(path)
    for text in ("[classes\n", "Man = 'person'\n", "[classes]\nMan = 3\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=str(path)):
            read_mapping(path)
