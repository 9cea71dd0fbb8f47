"""What conditional writes on a file system are worth: one table, with a reason for every entry.

A create is a link and a swap is a compare and a rename under a lock file. On a disk of this host the
kernel makes that exclusive. Between hosts it takes a file system whose locks, links and renames are
the same for all of them, and that shows none of them an old directory.
"""

import fnmatch
from dataclasses import dataclass
from typing import Final

from checkmate_core.types import Capability
from checkmate_io_fsspec._mounts import Mount

_CONDITIONS = frozenset({Capability.CREATE, Capability.SWAP, Capability.REMOVE_IF})


@dataclass(frozen=True, slots=True)
class Rule:
    """What is known of some types of file systems.

    Attributes:
        kinds: Their types; ``*`` stands for anything.
        is_shared: Whether all hosts see one set of locks, links and renames.
        reason: Why, or why not, in words that end a sentence.
        undone_by: Mount options under which it is not so after all.
    """

    kinds: tuple[str, ...]
    is_shared: bool
    reason: str
    undone_by: tuple[str, ...] = ()


RULES: Final = (
    Rule(
        ("nfs", "nfs4"),
        True,
        "flock() is a lock of the server's, link() and rename() happen there, open() asks it anew",
        undone_by=("nolock", "local_lock=flock", "local_lock=all", "nocto"),
    ),
    Rule(("ceph",), True, "one metadata server decides, and cuts off a client that it gives up"),
    Rule(
        ("lustre",),
        True,
        "coherent caches, and a server cuts off a client that it gives up",
        undone_by=("localflock", "noflock"),
    ),
    Rule(("gpfs",), True, "coherent, and a node that is given up is cut off from the disks"),
    Rule(("gfs2", "ocfs2"), True, "a cluster's lock manager, with fencing", undone_by=("localflocks",)),
    Rule(
        ("cifs", "smb3", "smbfs"),
        False,
        "an SMB server drops the locks of a client whose connection breaks, and the client goes on",
    ),
    Rule(
        ("9p", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "fakeowner"),
        False,
        "a folder that is shared with virtual machines leaves each machine its own locks",
    ),
    Rule(
        ("fuse.*",),
        False,
        "most FUSE file systems leave each host its own locks, and some show old directories",
    ),
    Rule(
        ("afs", "beegfs", "coda", "orangefs", "panfs", "pvfs2", "wekafs"),
        False,
        "whether its locks hold between hosts cannot be told from here",
    ),
)
# FUSE all the same: a layer of rootless containers over the host's own disk, and a driver for local disks.
_LOCAL_KINDS = ("fuse.fuse-overlayfs", "fuse.ntfs-3g")


@dataclass(frozen=True, slots=True)
class Footing:
    """What a base stands on.

    Attributes:
        capabilities: What the base can do there.
        is_local: Whether it is a disk of this host, with this host's clock.
        no_locks_because: Why it can hold no lock; None where it can.
    """

    capabilities: frozenset[Capability]
    is_local: bool
    no_locks_because: str | None


LOCAL: Final = Footing(frozenset(Capability), True, None)


def footing_on(mount: Mount | None, *, single_host: bool) -> Footing:
    """What a base on ``mount`` can do.

    Args:
        mount: None where the system does not tell: taken for a local disk.
        single_host: Whether somebody vouches that only this host uses the base.
    """
    if mount is None or mount.kind in _LOCAL_KINDS:
        return LOCAL
    rule = next(
        (rule for rule in RULES if any(fnmatch.fnmatchcase(mount.kind, kind) for kind in rule.kinds)), None
    )
    if rule is None:
        # Whatever it is, it says that it comes from another host.
        if not (mount.source.startswith("//") or ":/" in mount.source):
            return LOCAL
        rule = Rule((mount.kind,), False, "whether its locks hold between hosts is not known")
    undone = sorted(mount.options.intersection(rule.undone_by))
    if single_host or (rule.is_shared and not undone):
        # The time of a file there is its server's, and is compared with no clock of ours.
        return Footing(_CONDITIONS, False, None)
    return Footing(frozenset(), False, _refusal(mount, rule, undone))


def _refusal(mount: Mount, rule: Rule, undone: list[str]) -> str:
    why = rule.reason
    if undone:
        why = f"its option {undone[0]!r} leaves each host its own locks or old directories; mount it without"
    return (
        f"it is on {mount.kind} ({mount.source}, mounted on {mount.point}): {why}. If surely only this host works "
        "there, say so: single_host=True, or ?single_host=true in a file:// URL"
    )
