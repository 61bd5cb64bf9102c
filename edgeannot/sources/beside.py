"""What lies beside pictures and is none: label files, videos, archives, raw files."""

from __future__ import annotations

from pathlib import Path

__all__ = ["RAW_SUFFIXES", "SIDE_SUFFIXES", "is_beside"]

SIDE_SUFFIXES = frozenset(
    (  # noqa: SIM905 - a list of sixty lines says no more
        # text and data
        ".csv .db .dop .html .ini .json .jsonl .log .md .names .pdf .pp3 .sqlite .sqlite-shm .sqlite-wal .toml .txt .xml .xmp .yaml .yml "
        # documents, programs, archives
        ".bat .doc .docx .exe .js .odt .py .sh .xls .xlsx .7z .bz2 .gz .rar .tar .tgz .xz .zip "
        # sound and moving pictures
        ".aac .flac .m4a .mp3 .ogg .wav .3gp .avi .m4v .mkv .mov .mp4 .mpg .mts .webm .wmv"
    ).split()
)
"""Files that people and programs keep beside pictures. One that is indeed no picture is passed over without a word."""
RAW_SUFFIXES = frozenset({".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"})
"""What cameras keep beside their JPEG. Some begin as a TIFF does, which holds a thumbnail only: passed over likewise."""


def is_beside(path: Path) -> bool:
    """Whether this is a label file, a video, a raw file or the like, by its name and its first bytes."""
    if path.suffix.lower() in RAW_SUFFIXES:
        return True
    if path.suffix.lower() not in SIDE_SUFFIXES:
        return False
    # Loaded when the first file is looked at: settings import the source, and `edgeannot config` must not wait.
    from edgeannot.vision.picture_header import begins_as_picture  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            return not begins_as_picture(file.read(16))
    except OSError:
        return False  # reading it will say what is wrong
