"""`edgeannot service logs` for a user without the right to the journal, whom journalctl tells only that there are no entries."""

import pytest

from edgeannot.base.errors import RightsError
from edgeannot.cli.commands import service
from edgeannot.service.install import Place


def test_where_there_is_no_journal_nothing_is_refused(tmp_path):
    service._check_journal(tmp_path, Place("barn"))


@pytest.mark.usefixtures("bound_by_permissions")
@pytest.mark.parametrize("folder", ["var/log/journal", "run/log/journal"])
def test_a_journal_that_may_not_be_read_is_said_with_who_may(tmp_path, monkeypatch, folder):
    file = tmp_path / folder / "0123456789abcdef" / "system.journal"
    file.parent.mkdir(parents=True)
    file.touch(0o600)
    service._check_journal(tmp_path, Place("barn"))  # its owner's
    file.chmod(0)
    monkeypatch.setattr(service, "_ROOT", tmp_path)

    with pytest.raises(RightsError, match="read by root and the groups adm and systemd-journal: `sudo edgeannot service logs --name barn`"):
        service.logs(user=False, name="barn", follow=False, lines=1)
