"""Topics, and names as levels of them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeannot.base.errors import ConfigError
from edgeannot.mqtt.options import Topics, escape_level, unescape_level


@pytest.mark.parametrize(
    ("word", "level"),
    [
        ("", "%"),
        ("porch", "porch"),
        ("front/door #1", "front%2Fdoor %231"),
        ("a+b", "a%2Bb"),
        ("50%", "50%25"),
        ("\0", "%00"),
        ("$SYS", "%24SYS"),
        ("küche", "küche"),
    ],
)
def test_words_become_topic_levels(word, level):
    assert escape_level(word) == level
    assert unescape_level(level) == word


@given(st.text(max_size=300) | st.binary(max_size=300).map(os.fsdecode))
def test_any_word_is_a_level_that_can_be_turned_back(word):
    level = escape_level(word)

    assert level
    assert not set(level) & set("/+#\0$")
    assert unescape_level(level) == word
    level.encode()


@given(st.text(max_size=30), st.text(max_size=30))
def test_different_words_are_different_levels(one, other):
    assert (escape_level(one) == escape_level(other)) == (one == other)


def test_a_word_too_long_for_a_level_is_refused_rather_than_cut():
    with pytest.raises(ConfigError, match="too long"):
        escape_level("x" * 2000)


def test_the_topic_tree_is_as_documented():
    topics = Topics("pi/1", "site/edgeannot")

    assert topics.of_device("status") == "site/edgeannot/pi%2F1/status"
    assert topics.of_source("front #", "detections") == "site/edgeannot/pi%2F1/front %23/detections"


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60), st.sampled_from(["detections", "image", "count"]))
def test_any_topic_has_its_levels_and_no_wildcard(device, source, leaf):
    topic = Topics(device).of_source(source, leaf)

    assert topic.count("/") == 3
    assert not set(topic) & set("+#\0")
    assert [unescape_level(level) for level in topic.split("/")] == ["edgeannot", device, source, leaf]
    assert len(topic.encode()) < 65536
