"""`edgeannot teach classify` killed before each of its files gets its name: no half model, and what was seen is used again."""

from __future__ import annotations

import os
import subprocess
import sys

from edgeannot.vision.cards import read_card
from edgeannot_tools.datasets.pictures import read_class_set
from tests.tools.teach.color_sets import COLORS, write_set

KILLED_AT = """
import os, signal, sys
from typer.testing import CliRunner
from edgeannot.base import atomicfile
from edgeannot_tools.teach.command import teach_app
import edgeannot_tools.teach.classify.teaching, edgeannot_tools.teach.classify.report
from edgeannot_tools.teach.classify import backbone
from edgeannot_tools.teach import install

backbone.prove_foreign = install.prove = lambda card, runtime: None  # the test made that model; a trial takes a second each time
rename, left = os.replace, 0

def rename_or_die(*paths, **options):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return rename(*paths, **options)

os.replace = rename_or_die
for number in range(100):
    if (child := os.fork()) == 0:
        left = number
        done = CliRunner().invoke(teach_app, sys.argv[1:])
        print(done.output, done.exception)
        sys.stdout.flush()
        os._exit(0 if done.exception is None else 1)
    status = os.waitpid(child, 0)[1]
    print("killed" if os.WIFSIGNALED(status) else "ended", flush=True)
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
    sys.stdin.readline()  # the test looks at the files meanwhile
"""


def test_a_kill_before_any_file_has_its_name_leaves_no_half_model_and_a_usable_cache(tmp_path, data_dir):
    folder = write_set(tmp_path / "set", 2, {name: COLORS[name] for name in ("green", "red")})
    models = data_dir / "models"
    words = ["classify", folder, "--name", "mine", "--backbone", "colors", "--data-dir", data_dir]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_AT, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        kills = 0
        while (killed := process.stdout.readline().strip()) == "killed" and not (models / "mine.toml").exists():
            kills += 1
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()

    assert killed in {"killed", "ended"}
    assert kills >= 4, "what was seen, the list of pictures, the model, its names; then the card"
    read_card(models / "mine.toml").verify_file()
    assert len(read_class_set(models / "mine.taught.csv").pictures) == 4
