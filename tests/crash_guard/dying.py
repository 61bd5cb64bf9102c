"""A life of the program that ends while it processes a picture, without its process."""

from pathlib import Path

from edgeannot.crash_guard import AtWork

__all__ = ["die"]


def die(folder: Path, source: str, identity: str, name: str = "a picture") -> None:
    """What a crash leaves behind in the state folder while this picture is decoded, whatever was there before."""
    lived = AtWork(folder)
    assert lived.enter(source, identity, name)
    (folder / "crash-trace.txt").write_text("Fatal Python error: Segmentation fault\n")
    left = (folder / "at-work").read_bytes()
    lived.close()
    (folder / "at-work").write_bytes(left)
