"""A configuration that is read again: a wrong one changes nothing and is named."""

import logging

from edgeannot.base.errors import ConfigError
from edgeannot.daemon.reload import Reload


class Told:
    def __init__(self):
        self.sent = []

    def send(self, **fields):
        self.sent.append(fields)


def test_nothing_is_read_that_was_not_asked_for():
    told = Told()
    reload = Reload(lambda: 1 / 0, told)

    assert reload.tick() is False
    assert (told.sent, reload.take()) == ([], None)


def test_a_good_configuration_takes_over_once():
    told = Told()
    reload = Reload(lambda: "new", told)
    reload.ask()

    assert reload.tick() is True
    assert (reload.take(), reload.take()) == ("new", None)
    assert told.sent[0]["RELOADING"] == "1"
    assert reload.tick() is False


def test_a_wrong_configuration_is_named_and_the_run_goes_on(caplog):
    told = Told()

    def wrong():
        raise ConfigError("min_scor: unknown setting")

    reload = Reload(wrong, told)
    reload.ask()
    with caplog.at_level(logging.ERROR):
        assert reload.tick() is False

    assert reload.take() is None
    assert "the old one stays in force: min_scor: unknown setting" in caplog.text
    assert told.sent[-1] == {"READY": "1"}
    assert "min_scor" in told.sent[-2]["STATUS"]
