"""Bases on network file systems: found in the table of mounts, and refused a lock where none would hold."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from checkmate import BaseStage, BaseStageState, CheckMate, CheckMateEngine, TaskStore, open_task_io
from checkmate_core.clock import SystemClock
from checkmate_core.errors import (
    StorageUnavailableException,
    UnsupportedBackendException,
    VersionConflictException,
)
from checkmate_core.types import ABSENT, Capability, Version
from checkmate_io_fsspec import _mounts
from checkmate_io_fsspec._mounts import Mount, find_mount, mount_of, parse_mounts
from checkmate_io_fsspec._network import LOCAL, RULES, footing_on
from checkmate_io_fsspec.local import LocalTaskIO


class Cargo(BaseStageState):
    trail: list[str] = []  # noqa: RUF012 - pydantic copies it


class Load(BaseStage[Cargo]):
    state: Cargo = Cargo()

    def execute_stage(self, previous_state_copy: Cargo) -> None:
        self.state.trail.append(self.stage_name)
        self.state.result = ",".join(self.state.trail)


def stages() -> list[Load]:
    return [Load(stage_name=name) for name in ("fetch", "embed")]


# The table of mounts


def escaped(text: str) -> str:
    """As the kernel writes a path: show_mountinfo() escapes these bytes as octal numbers."""
    return "".join(f"\\{ord(each):03o}" if each in " \t\n\\#" else each for each in text)


def line(mount: Mount, optional: str = "") -> str:
    options = ",".join(sorted(mount.options))
    extra = f"{optional} " if optional else ""
    return (
        f"36 35 {mount.device} / {escaped(mount.point)} {options} {extra}- "
        f"{escaped(mount.kind)} {escaped(mount.source)} {options}\n"
    )


characters = st.characters(exclude_characters="/\0", exclude_categories=["Cs"]) | st.sampled_from(" \t\n\\#-")
segments = st.text(characters, min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))
paths = st.lists(segments, max_size=4).map(lambda names: "/" + "/".join(names))
words = st.text(st.sampled_from("abcxyz0189=._"), min_size=1, max_size=8)
mounts = st.builds(
    Mount,
    device=st.tuples(st.integers(0, 999), st.integers(0, 999)).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    point=paths,
    kind=words,
    source=st.text(characters, min_size=1, max_size=12),
    options=st.frozensets(words, min_size=1, max_size=4),
)


@given(st.lists(st.tuples(mounts, st.sampled_from(["", "shared:1", "shared:1 master:2", "unbindable"]))))
def test_what_the_kernel_writes_is_read_back(table: list[tuple[Mount, str]]) -> None:
    text = "".join(line(mount, optional) for mount, optional in table)
    assert list(parse_mounts(text)) == [mount for mount, _ in table]


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    for mount in parse_mounts(text):
        assert isinstance(mount, Mount)


@given(st.lists(mounts, min_size=1), paths)
def test_the_innermost_mount_holds_a_path(table: list[Mount], path: str) -> None:
    found = mount_of(path, "".join(line(mount) for mount in table))
    above = [path]
    while above[-1] != "/":
        above.append(os.path.dirname(above[-1]))
    expected = [mount for point in above for mount in reversed(table) if mount.point == point]
    assert found == (expected[0] if expected else None)


def test_a_neighbour_with_a_longer_name_is_another_folder() -> None:
    table = line(mount_on("/data", "ext4")) + line(mount_on("/data/nfs", "nfs4"))
    assert kind_at("/data/nfs2", table) == "ext4"
    assert kind_at("/data/nfs", table) == "nfs4"


def test_a_mount_that_another_one_hides_is_not_taken() -> None:
    table = line(mount_on("/srv/jobs", "nfs4", device="0:50")) + line(mount_on("/srv", "ext4", device="8:1"))
    found = mount_of("/srv/jobs/x", table, "8:1")
    assert found is not None
    assert found.kind == "ext4"
    # A file system whose files have another number than their mount is told by the path alone.
    assert mount_of("/srv/jobs/x", table, "0:77") == mount_of("/srv/jobs/x", table)


def test_the_real_table_is_read_as_df_reads_it(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "yet"
    for folder in (tmp_path, missing, Path("/")):
        found = find_mount(str(folder))
        if sys.platform != "linux":
            assert found is None
            continue
        existing = str(folder if folder.exists() else tmp_path)
        answer = subprocess.check_output(["df", "--output=fstype,target", existing], text=True)
        kind, point = answer.splitlines()[1].split(None, 1)
        assert found is not None
        assert (found.kind, found.point) == (kind, point)
    assert LocalTaskIO(tmp_path).capabilities == frozenset(Capability)


@given(mounts, st.booleans())
def test_every_footing_is_whole(mount: Mount, single_host: bool) -> None:
    assume("/" not in mount.source)
    for kind in [mount.kind, *(kind.replace("*", "sshfs") for rule in RULES for kind in rule.kinds)]:
        options = mount.options | {option for rule in RULES for option in rule.undone_by if len(kind) % 2}
        there = Mount(mount.device, mount.point, kind, mount.source, options)
        footing = footing_on(there, single_host=single_host)
        can_lock = {Capability.CREATE, Capability.SWAP} <= footing.capabilities
        assert can_lock == (footing.no_locks_because is None)
        assert (Capability.STORE_CLOCK in footing.capabilities) == footing.is_local
        assert can_lock or not single_host


def mount_on(point: str, kind: str, *options: str, source: str = "srv:/x", device: str = "0:99") -> Mount:
    return Mount(device, point, kind, source, frozenset({"rw", *options}))


def kind_at(path: str, table: str) -> str | None:
    found = mount_of(path, table)
    return found.kind if found else None


# Bases there

MakeMount = Callable[..., Path]


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeMount:
    """Make a folder that the table of mounts calls a file system of the given kind."""

    def make(kind: str, *options: str, source: str = "srv:/x") -> Path:
        folder = tmp_path / "a share"
        folder.mkdir(exist_ok=True)
        table = tmp_path / "mountinfo"
        table.write_text(line(mount_on(os.path.realpath(folder), kind, *options, source=source)))
        monkeypatch.setattr(_mounts, "_MOUNTINFO", table)
        return folder / "jobs"

    return make


REFUSED = [
    ("nfs", ("nolock",), "srv:/x", "'nolock'"),
    ("nfs", ("local_lock=all",), "srv:/x", "'local_lock=all'"),
    ("nfs4", ("local_lock=flock", "vers=4.2"), "srv:/x", "'local_lock=flock'"),
    ("nfs4", ("nocto",), "srv:/x", "'nocto'"),
    ("lustre", ("localflock",), "srv@tcp:/x", "'localflock'"),
    ("cifs", (), "//srv/x", "connection breaks"),
    ("fuse.sshfs", (), "me@srv:/x", "FUSE"),
    ("fuse.s3fs", (), "s3fs", "FUSE"),
    ("fuse.gcsfuse", (), "bucket", "FUSE"),
    ("9p", (), "hostshare", "virtual machines"),
    ("vboxsf", (), "share", "virtual machines"),
    ("beegfs", (), "beegfs_nodev", "cannot be told"),
    ("brandnewfs", (), "srv:/x", "not known"),
    ("brandnewfs", (), "//srv/x", "not known"),
]


@pytest.mark.parametrize(("kind", "options", "source", "word"), REFUSED)
def test_where_no_lock_would_hold_it_is_refused_with_mount_reason_and_fix(
    mounted: MakeMount, kind: str, options: tuple[str, ...], source: str, word: str
) -> None:
    base = mounted(kind, *options, source=source)
    io = LocalTaskIO(base)
    with pytest.raises(UnsupportedBackendException) as caught:
        CheckMateEngine(io, "t", stages()).bind()
    for text in (io.base_url, kind, source, str(base.parent), word, "single_host=True", "no_lock=True"):
        assert text in str(caught.value)
    assert io.capabilities == frozenset()
    for conditional in (
        lambda: io.write("x", b"1", expect=ABSENT),
        lambda: io.write("x", b"1", expect=Version("v")),
        lambda: io.remove("x", expect=Version("v")),
    ):
        with pytest.raises(UnsupportedBackendException, match="on a condition: it is on"):
            conditional()
    assert not base.exists(), "nothing was written"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("nfs", ("vers=3", "local_lock=none")),
        ("nfs4", ("vers=4.2", "local_lock=posix")),
        ("ceph", ()),
        ("lustre", ("flock",)),
        ("gpfs", ()),
    ],
)
def test_where_all_hosts_see_one_lock_a_task_is_executed_under_it(
    mounted: MakeMount, kind: str, options: tuple[str, ...]
) -> None:
    io = LocalTaskIO(mounted(kind, *options))
    assert io.capabilities == {Capability.CREATE, Capability.SWAP, Capability.REMOVE_IF}
    assert CheckMate(io, "t", stages()).run() == "fetch,embed"
    assert TaskStore(io).get("t").status == "COMPLETE"
    # A file's time is the server's: compared with this host's clock it would say nothing.
    assert io.read("t/task.json").age is None


@pytest.mark.parametrize(("kind", "options", "source", "word"), REFUSED[:1] + REFUSED[5:7])
def test_who_vouches_for_a_single_host_gets_its_locks(
    mounted: MakeMount, kind: str, options: tuple[str, ...], source: str, word: str
) -> None:
    base = mounted(kind, *options, source=source)
    for number, url in enumerate((f"{base.as_uri()}?single_host=true", str(base))):
        io = open_task_io(url) if number == 0 else open_task_io(url, single_host=True)
        assert Capability.STORE_CLOCK not in io.capabilities
        assert CheckMate(io, f"t{number}", stages()).run() == "fetch,embed"
    with pytest.raises(UnsupportedBackendException, match="must be true or false"):
        open_task_io(f"{base.as_uri()}?single_host=perhaps")


def test_without_a_lock_a_task_is_executed_anywhere(mounted: MakeMount) -> None:
    io = LocalTaskIO(mounted("fuse.sshfs"))
    engine = CheckMateEngine(io, "t", stages(), no_lock=True)
    engine.bind()
    engine.execute()
    engine.unbind()
    assert TaskStore(io).get("t").result == "fetch,embed"


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuse.fuse-overlayfs", "fuseblk"]
)
def test_a_disk_of_this_host_can_all(mounted: MakeMount, kind: str) -> None:
    io = LocalTaskIO(mounted(kind, source="/dev/sda1"))
    assert io.capabilities == LOCAL.capabilities == frozenset(Capability)
    io.write("x", b"1")
    assert io.read("x").age is not None


def test_a_base_behind_a_link_is_where_the_link_leads(mounted: MakeMount, tmp_path: Path) -> None:
    share = mounted("fuse.sshfs").parent
    (tmp_path / "link").symlink_to(share, target_is_directory=True)
    assert LocalTaskIO(tmp_path / "link" / "jobs").capabilities == frozenset()
    assert LocalTaskIO(tmp_path / "elsewhere").capabilities == frozenset(Capability)


def test_the_table_is_read_once_for_each_store(mounted: MakeMount, monkeypatch: pytest.MonkeyPatch) -> None:
    base = mounted("nfs4")
    reads = []
    real = Path.read_text

    def read_text(path: Path, *args: object, **kwargs: object) -> str:
        reads.append(path.name)
        return real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_text)
    io = LocalTaskIO(base)
    assert reads.count("mountinfo") == 0
    CheckMate(io, "t", stages()).run()
    assert reads.count("mountinfo") == 1


# What goes wrong on a network


def test_a_link_whose_answer_was_lost_is_recognised(
    mounted: MakeMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    io = LocalTaskIO(mounted("nfs"))
    real = os.link

    def link(source: str, target: str) -> None:
        real(source, target)
        raise FileExistsError(17, "File exists", source, None, target)

    monkeypatch.setattr(os, "link", link)
    version = io.write("t/x", b"ours", expect=ABSENT)
    assert io.read("t/x").version == version

    def beaten(source: str, target: str) -> None:
        Path(target).write_bytes(b"theirs")
        raise FileExistsError(17, "File exists", source, None, target)

    monkeypatch.setattr(os, "link", beaten)
    with pytest.raises(VersionConflictException):
        io.write("t/y", b"ours", expect=ABSENT)
    assert io.read("t/y").data == b"theirs"


def test_who_stood_still_under_a_lock_changes_nothing(
    mounted: MakeMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = LocalTaskIO(mounted("nfs4"))
    version = remote.write("t/x", b"1")
    changes: tuple[Callable[[LocalTaskIO], object], ...] = (
        lambda io: io.write("t/x", b"2", expect=version),
        lambda io: io.remove("t/x", expect=version),
    )
    seconds = iter(range(0, 1000, 6))
    monkeypatch.setattr(SystemClock, "monotonic", lambda _: float(next(seconds)))
    for change in changes:
        with pytest.raises(StorageUnavailableException, match="stood still for 6 s") as caught:
            change(remote)
        assert remote.build_url("t/x") in str(caught.value)
    assert remote.read("t/x").version == version
    # On a disk of its own a host that stands still holds its lock all the same.
    mounted("ext4", source="/dev/sda1")
    changes[0](LocalTaskIO(Path(remote.base_url.removeprefix("file://").replace("%20", " "))))
    assert remote.read("t/x").data == b"2"
