"""Folders in which room runs out."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOM = 1 << 20


@dataclass(frozen=True)
class SmallDisk:
    """A folder without much room.

    Attributes:
        folder: Where.
        filler: What a worker fills it up with; None where files are small by limit instead.
        file_limit: How large a file can get; None where the disk itself is small.
    """

    folder: Path
    filler: Path | None
    file_limit: int | None

    def make_room(self) -> None:
        if self.filler is not None:
            self.filler.unlink()


@contextmanager
def small_disk(parent: Path) -> Iterator[SmallDisk]:
    """A disk of 1 MiB where this system lets us mount one, else a limit for each file."""
    folder = parent / "small disk"
    folder.mkdir()
    mounted = _try("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
    if not mounted:
        yield limited_files(folder)
        return
    try:
        yield SmallDisk(folder, folder / "filler", None)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=60)


def limited_files(folder: Path) -> SmallDisk:
    """Files cannot grow beyond 64 KiB."""
    return SmallDisk(folder, None, 1 << 16)


def _try(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except OSError:
        return False
