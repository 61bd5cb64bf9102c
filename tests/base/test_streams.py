"""Tables of text: aligned, and folded for a narrow terminal."""

from __future__ import annotations

from edgeannot.base.streams import columns

ROWS = [("NAME", "MS", "WHY"), ("a", "10", "the quickest of all that fit the budget"), ("longer", "9", "")]


def test_nothing_is_no_table():
    assert columns([]) == []


def test_a_table_that_fits_has_a_line_a_row():
    assert columns(ROWS, 80) == ["NAME    MS  WHY", "a       10  the quickest of all that fit the budget", "longer  9"]
    assert columns(ROWS) == columns(ROWS, 80), "not a terminal"


def test_the_last_column_is_folded_in_its_place():
    assert columns(ROWS, 40) == ["NAME    MS  WHY", "a       10  the quickest of all that fit", "            the budget", "longer  9"]


def test_columns_without_room_go_below_behind_their_words():
    wide = [("NAME", "A MEASURE", "WHY"), ("a" * 20, "7", "because"), ("b", "8", "")]

    assert columns(wide, 30) == ["NAME", "a" * 20, "      a measure 7, why because", "b", "      a measure 8"]
