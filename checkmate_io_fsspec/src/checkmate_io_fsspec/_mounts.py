"""Which file system a folder is on, read from the kernel's table of mounts (Linux)."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system.

    Attributes:
        device: ``major:minor`` as `os.stat` tells it, on most file systems.
        point: The folder that it is mounted on.
        kind: Its type: ``ext4``, ``nfs4``, ``fuse.sshfs``.
        source: What is mounted: a device, or ``server:/export``.
        options: Of the mount and of the file system, such as ``local_lock=none``.
    """

    device: str
    point: str
    kind: str
    source: str
    options: frozenset[str]


def parse_mounts(mountinfo: str) -> Iterator[Mount]:
    """Read the text of ``/proc/PID/mountinfo`` (proc(5)); lines that are none are passed over."""
    # Only "\\n" ends a line: a path may hold what str.splitlines() takes for an end.
    for line in mountinfo.split("\n"):
        # "36 35 98:0 /root /point rw,noatime shared:1 - ext3 /dev/root rw,errors=continue"
        fields = line.split(" ")
        try:
            separator = fields.index("-", 6)
            kind, source, super_options = fields[separator + 1 : separator + 4]
        except ValueError:
            continue
        options = frozenset([*fields[5].split(","), *super_options.split(",")])
        yield Mount(fields[2], _unescape(fields[4]), _unescape(kind), _unescape(source), options)


def mount_of(path: str, mountinfo: str, device: str | None = None) -> Mount | None:
    """The mount that holds ``path``, or None if the table does not tell.

    Args:
        path: Absolute, without symbolic links.
        mountinfo: The table.
        device: ``major:minor`` of what is found at the path. It tells a mount that another one hides
            from the one that is seen; some file systems (btrfs, overlays) give files another number than
            their mount, and then the path alone decides.
    """
    covering = [mount for mount in parse_mounts(mountinfo) if _covers(mount.point, path)]
    of_device = [mount for mount in covering if mount.device == device]
    seen = None
    for mount in of_device or covering:
        # Of mounts on one folder the last one lies on top.
        if seen is None or len(mount.point) >= len(seen.point):
            seen = mount
    return seen


def find_mount(folder: str) -> Mount | None:
    """The mount that a folder is on or, where it does not exist yet, the folder above it that does."""
    path = os.path.realpath(folder)
    while True:
        try:
            status = os.stat(path)
            break
        except OSError:
            if path == os.path.dirname(path):
                return None
            path = os.path.dirname(path)
    try:
        # Only now: to look at a path may be what makes an automounter mount it.
        mountinfo = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return mount_of(path, mountinfo, f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}")


def _covers(point: str, path: str) -> bool:
    return path == point or path.startswith(point if point.endswith("/") else f"{point}/")


def _unescape(field: str) -> str:
    # The kernel escapes bytes (blank, tab, newline, backslash, #), so a character of many bytes stays as it is.
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
