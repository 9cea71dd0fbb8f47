"""Folders in which room runs out, or that cannot be written to."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .pipeline import fill_disk

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


class Disk(Protocol):
    """A folder that can be written to, or not."""

    @property
    def folder(self) -> Path:
        """Where."""
        ...

    @property
    def reason(self) -> str:
        """What is said of a write that fails."""
        ...

    def block(self) -> None:
        """Let no write succeed any more."""

    def unblock(self) -> None:
        """As before."""


class FullDisk(SmallDisk):
    """It is filled up."""

    reason = "ENOSPC"

    def block(self) -> None:
        assert self.filler is not None
        fill_disk(str(self.filler))

    def unblock(self) -> None:
        self.make_room()


@dataclass(frozen=True)
class ReadOnlyDisk:
    """It is mounted read-only."""

    folder: Path
    reason: str = "EROFS"

    def block(self) -> None:
        self._mount("ro")

    def unblock(self) -> None:
        self._mount("rw")

    def _mount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True, timeout=60)


@dataclass(frozen=True)
class ForbiddenFolder:
    """This user may not write to it, nor to any folder in it."""

    folder: Path
    reason: str = "EACCES"

    def block(self) -> None:
        self._allow(0o500)

    def unblock(self) -> None:
        self._allow(0o700)

    def _allow(self, mode: int) -> None:
        for path in (self.folder, *self.folder.rglob("*/")):
            path.chmod(mode)


@dataclass(frozen=True)
class ObstructedFolder:
    """A file stands where the store puts what it is about to write: that stops even root."""

    folder: Path
    reason: str = "ENOTDIR"

    def block(self) -> None:
        private = self.folder / "store" / ".checkmate"
        private.parent.mkdir(exist_ok=True)
        if private.exists():
            private.rename(private.with_name("aside"))
        private.touch()

    def unblock(self) -> None:
        private = self.folder / "store" / ".checkmate"
        private.unlink()
        if private.with_name("aside").exists():
            private.with_name("aside").rename(private)


@contextmanager
def small_disk(parent: Path) -> Iterator[SmallDisk]:
    """A disk of 1 MiB where this system lets us mount one, else a limit for each file."""
    with _tmpfs(parent) as folder:
        yield SmallDisk(folder, folder / "filler", None) if os.path.ismount(folder) else limited_files(folder)


@contextmanager
def blockable_disk(parent: Path, *, is_full: bool) -> Iterator[Disk]:
    """A disk that can be filled up, or made read-only; where nothing can be mounted, something close to it."""
    with _tmpfs(parent) as folder:
        if os.path.ismount(folder):
            yield FullDisk(folder, folder / "filler", None) if is_full else ReadOnlyDisk(folder)
        else:
            yield ForbiddenFolder(folder) if os.geteuid() else ObstructedFolder(folder)


@contextmanager
def _tmpfs(parent: Path) -> Iterator[Path]:
    folder = parent / "small disk"
    folder.mkdir()
    mounted = _try("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=60)


def limited_files(folder: Path) -> SmallDisk:
    """Files cannot grow beyond 64 KiB."""
    return SmallDisk(folder, None, 1 << 16)


def _try(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except OSError:
        return False
