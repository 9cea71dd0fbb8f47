"""`checkmate doctor` on real stores: one that is known to be good, one that is not, and bad ones."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from checkmate_core.doctor import Verdict, examine
from checkmate_core.io.memory import MemoryTaskIO
from checkmate_core.testing import FaultyTaskIO, LoseResponse, Operation, RaiseBefore
from checkmate_core.types import Capability

from .conftest import Run
from .s3_doors import (
    IF_MATCH,
    IF_NONE_MATCH,
    Behaviour,
    DividedCluster,
    denying,
    door,
    honest,
    ignoring,
    keys,
    losing_races,
    make_bucket,
    refusing_conditions,
)

OPERATIONS = ["read of a missing object", "create", "read", "swap", "list", "remove"]
CONDITIONS = [
    "create over an object",
    "swap on an old version",
    "swap of a removed object",
    "remove on an old version",
]


class Patient:
    """A bucket behind servers of its own, and what the doctor says of it."""

    def __init__(self, run: Run, stack: ExitStack) -> None:
        self._run = run
        self._stack = stack
        self.bucket = make_bucket()

    def url(self, behaviour: Behaviour) -> str:
        endpoint = self._stack.enter_context(door(behaviour))
        return f"s3://{self.bucket}/jobs?endpoint_url={endpoint}&region=us-east-1"

    def examine(self, *behaviours: Behaviour, rounds: int = 1) -> tuple[Any, int]:
        urls = [self.url(behaviour) for behaviour in behaviours]
        return diagnosis(self._run, *urls, "--rounds", str(rounds))


def diagnosis(run: Run, *arguments: str) -> tuple[Any, int]:
    result = run("doctor", *arguments, "--json")
    return json.loads(result.stdout), result.exit_code


def faults(found: Any) -> dict[str, str]:
    return {each["name"]: each["fault"] for each in found["doors"][0]["conditions"] if each["fault"]}


def refusals(found: Any) -> dict[str, str]:
    return {each["operation"]: each["error"] for each in found["doors"][0]["permissions"] if each["error"]}


@pytest.fixture
def patient(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Patient]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECRETKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecretsecret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ExitStack() as stack:
        yield Patient(run, stack)


# Three stores, three verdicts


def test_a_folder_is_safe(run: Run, checkmate_file_url: str, tmp_path: Path) -> None:
    found, code = diagnosis(run, checkmate_file_url)
    assert (found["verdict"], code) == ("SAFE", 0)
    (only,) = found["doors"]
    assert only["base_url"] == checkmate_file_url
    assert only["backend"] == "checkmate_io_fsspec.local.LocalTaskIO"
    assert only["capabilities"] == sorted(each.name for each in Capability)
    assert [each["operation"] for each in only["permissions"]] == OPERATIONS
    assert [each["name"] for each in only["conditions"]] == CONDITIONS
    assert (faults(found), refusals(found)) == ({}, {})
    assert [(race["kind"], race["contenders"], race["winners"]) for race in found["races"]] == [
        ("create", 32, [1] * 10),
        ("swap", 32, [1] * 10),
    ]
    assert [(each["operation"], each["requests"]) for each in only["latencies"]] == [
        ("read", 20),
        ("swap", 20),
    ]
    assert all(0 < each["median_ms"] <= each["worst_ms"] for each in only["latencies"])
    # One clock, and a file's time may be some milliseconds old.
    assert abs(only["clock"]["seconds"]) <= only["clock"]["uncertainty"] + 1
    assert {path.parts[0] for path in files(tmp_path / "checkmate-store")} == {".checkmate"}


def test_a_server_that_nobody_knows_is_unproven(run: Run, checkmate_s3_url: str) -> None:
    found, code = diagnosis(run, checkmate_s3_url, "--rounds", "2")
    assert (found["verdict"], code) == ("UNPROVEN", 0)
    (only,) = found["doors"]
    bucket = checkmate_s3_url.removeprefix("s3://").partition("/")[0]
    endpoint = checkmate_s3_url.partition("endpoint_url=")[2].partition("&")[0]
    assert only["endpoint"] == f"{endpoint} {bucket}"
    assert (faults(found), refusals(found)) == ({}, {})
    assert [race["winners"] for race in found["races"]] == [[1, 1], [1, 1]]
    assert only["clock"]["resolution"] == 1.0
    assert abs(only["clock"]["seconds"]) <= only["clock"]["uncertainty"] + 1
    assert run("ls", checkmate_s3_url).stdout.strip() == "no tasks"


def test_a_server_that_ignores_conditions_is_unsafe_and_keeps_nothing(patient: Patient) -> None:
    found, code = patient.examine(ignoring(IF_MATCH, IF_NONE_MATCH))
    assert (found["verdict"], code) == ("UNSAFE", 5)
    assert list(faults(found)) == CONDITIONS
    assert refusals(found) == {}
    assert found["reason"].startswith("Never lock here: ")
    assert "ignored the condition of a create where an object exists" in found["reason"]
    assert "no_lock=True" in found["reason"]
    assert [race["winners"] for race in found["races"]] == [[32], [32]]
    assert keys(patient.bucket) == []


@pytest.mark.parametrize(
    ("behaviour", "ignored"),
    [
        (ignoring(IF_NONE_MATCH), CONDITIONS[:1]),
        (ignoring(IF_MATCH, methods=["PUT"]), CONDITIONS[1:3]),
        (ignoring(IF_MATCH, methods=["DELETE"]), CONDITIONS[3:]),
    ],
    ids=["create", "swap", "remove"],
)
def test_every_ignored_condition_is_named_and_no_other(
    patient: Patient, behaviour: Behaviour, ignored: list[str]
) -> None:
    found, code = patient.examine(behaviour)
    assert (found["verdict"], code) == ("UNSAFE", 5)
    assert list(faults(found)) == ignored
    assert keys(patient.bucket) == []


def test_a_lost_race_alone_is_enough(patient: Patient) -> None:
    found, code = patient.examine(losing_races())
    assert (found["verdict"], code) == ("UNSAFE", 5)
    assert faults(found) == {}
    assert [race["winners"] for race in found["races"]] == [[2], [2]]
    assert "in 1 of 1 rounds more than one of 32 writers" in found["reason"]
    assert keys(patient.bucket) == []


# Several doors


@pytest.mark.slow
def test_the_nodes_of_a_cluster_are_raced_together(patient: Patient) -> None:
    found, code = patient.examine(honest, honest)
    assert (found["verdict"], code) == ("UNPROVEN", 0)
    assert len({each["endpoint"] for each in found["doors"]}) == 2
    assert [race["winners"] for race in found["races"]] == [[1], [1]]


@pytest.mark.slow
def test_nodes_that_are_honest_alone_and_not_together_are_found_out(patient: Patient) -> None:
    cluster = DividedCluster()
    alone, code = patient.examine(cluster.node())
    assert (alone["verdict"], code) == ("UNPROVEN", 0)
    together, code = patient.examine(cluster.node(), cluster.node())
    assert (together["verdict"], code) == ("UNSAFE", 5)
    assert [faults({"doors": [each]}) for each in together["doors"]] == [{}, {}]
    assert max(together["races"][0]["winners"]) > 1
    assert keys(patient.bucket) == []


def test_doors_to_different_stores_are_refused(run: Run, patient: Patient, checkmate_file_url: str) -> None:
    result = run("doctor", patient.url(honest), checkmate_file_url)
    assert result.exit_code == 5
    assert "not seen through URL number 2" in result.stderr
    assert checkmate_file_url in result.stderr
    assert keys(patient.bucket) == []


# What is missing


@pytest.mark.parametrize(
    ("denied", "operations", "permission"),
    [
        ("PUT", ["create"], "s3:PutObject on arn:aws:s3:::{}/jobs/*"),
        ("DELETE", ["remove"], "s3:DeleteObject on arn:aws:s3:::{}/jobs/*"),
        ("LIST", ["list"], "s3:ListBucket on arn:aws:s3:::{}"),
        ("GET", ["read of a missing object", "read"], "s3:GetObject on arn:aws:s3:::{}/jobs/*"),
        ("HIDE", ["read of a missing object"], "s3:ListBucket on arn:aws:s3:::{}"),
    ],
)
def test_the_missing_permission_is_named(
    patient: Patient, denied: str, operations: list[str], permission: str
) -> None:
    found, code = patient.examine(denying(denied))
    assert (found["verdict"], code) == ("UNUSABLE", 5)
    grant = permission.format(patient.bucket)
    # What needs an object is not tried without one.
    tried = [each for each in OPERATIONS if denied != "PUT" or each != "swap"]
    assert [each["operation"] for each in found["doors"][0]["permissions"]] == tried
    assert list(refusals(found)) == operations
    assert all(grant in error for error in refusals(found).values())
    assert grant in found["reason"]
    left = found["doors"][0]["left_behind"]
    assert len(left) == len(keys(patient.bucket)) == (denied == "DELETE")
    assert [url.removeprefix(f"s3://{patient.bucket}/") for url in left] == keys(patient.bucket)
    assert found["races"] == []


def test_the_door_that_refuses_is_named(patient: Patient) -> None:
    found, code = patient.examine(honest, denying("LIST"))
    assert (found["verdict"], code) == ("UNUSABLE", 5)
    assert "through URL number 2: cannot list" in found["reason"]
    assert found["races"] == []
    assert keys(patient.bucket) == []


def test_a_server_without_conditional_writes_holds_no_locks(patient: Patient) -> None:
    found, code = patient.examine(refusing_conditions)
    assert (found["verdict"], code) == ("NO_LOCKS", 5)
    assert list(refusals(found)) == ["create", "swap"]
    assert "only no_lock=True works" in found["reason"]
    assert keys(patient.bucket) == []


def test_a_store_that_does_not_declare_them_holds_none_either() -> None:
    io = MemoryTaskIO("memory://undeclared")
    io.capabilities = frozenset({Capability.STORE_CLOCK})
    found = examine([io])
    assert found.verdict is Verdict.NO_LOCKS
    assert not io.objects


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_unusable(run: Run, patient: Patient) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"s3://{patient.bucket}/jobs?endpoint_url=http://127.0.0.1:{closed.getsockname()[1]}"
        found, code = diagnosis(run, url)
    assert (found["verdict"], code) == ("UNUSABLE", 5)
    assert list(refusals(found)) == [each for each in OPERATIONS if each != "swap"]
    assert "the endpoint did not answer" in found["reason"]
    assert found["doors"][0]["is_known_good"] is False


def test_a_bucket_that_is_not_there_is_unusable(patient: Patient) -> None:
    patient.bucket = "there-is-no-such-bucket"
    found, code = patient.examine(honest)
    assert (found["verdict"], code) == ("UNUSABLE", 5)
    assert "there is no bucket 'there-is-no-such-bucket'. Create it" in found["reason"]


def test_a_folder_below_a_file_is_unusable(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found, code = diagnosis(run, str(tmp_path / "file" / "jobs"))
    assert (found["verdict"], code) == ("UNUSABLE", 5)
    assert "a file stands where a folder is needed" in found["reason"]


@pytest.mark.parametrize(("mode", "right"), [(0o555, "write and enter it (wx)"), (0o444, "enter it (x)")])
def test_a_folder_without_a_right_is_unusable(mode: int, right: str) -> None:
    # Root may do anything, so another user asks; what it may not even read is imported before.
    source = """
import os, sys
import rich.table, checkmate.cli, checkmate.doctor, checkmate_core.doctor
from checkmate_core import open_task_io
open_task_io(sys.argv[2])
if os.geteuid() == 0: os.setuid(65534)
checkmate.cli.main()
"""
    with tempfile.TemporaryDirectory() as name:
        jobs = Path(name) / "jobs"
        jobs.mkdir()
        Path(name).chmod(0o777)
        jobs.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", source, "doctor", str(jobs), "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        jobs.chmod(0o777)
        assert done.returncode == 5, done.stderr
        found = json.loads(done.stdout)
        assert found["verdict"] == "UNUSABLE"
        assert f"access to the folder {jobs}: the right to {right}" in found["reason"]
        assert files(jobs) == set()


# What it leaves


def test_it_leaves_nothing_when_the_store_fails_in_the_middle(run: Run, patient: Patient) -> None:
    result = run("doctor", patient.url(denying("GET", after=15)), "--json")
    assert result.exit_code == 5
    assert result.stdout == ""
    assert "s3:GetObject" in result.stderr
    assert keys(patient.bucket) == []


@pytest.mark.parametrize("fault", [RaiseBefore(), LoseResponse(), RaiseBefore(KeyboardInterrupt())], ids=repr)
def test_one_failed_request_leaves_nothing_and_never_makes_an_honest_store_unsafe(
    fault: RaiseBefore | LoseResponse,
) -> None:
    sound = FaultyTaskIO(MemoryTaskIO("memory://sound"))
    assert examine([sound], rounds=1).verdict is Verdict.SAFE
    for number in range(1, len(sound.calls) - 60, 3):
        store = MemoryTaskIO(f"memory://{number}")
        io = FaultyTaskIO(store)
        io.plan(number, fault)
        verdict = Verdict.UNUSABLE
        with suppress(type(fault.error)):
            verdict = examine([io], rounds=1).verdict
        struck = io.calls[number - 1]
        assert verdict in (Verdict.SAFE, Verdict.UNUSABLE), struck
        if struck.operation is not Operation.REMOVE:
            assert not store.objects, struck


# The command


def test_it_draws_tables(run: Run, checkmate_file_url: str, patient: Patient) -> None:
    text = run("doctor", checkmate_file_url, "--rounds", "1").stdout
    for word in (*OPERATIONS, *CONDITIONS, "latency of a swap", "clock", "32 race for one create", "SAFE: "):
        assert word in text
    text = run("doctor", patient.url(ignoring(IF_MATCH, IF_NONE_MATCH)), "--rounds", "1").stdout
    for word in ("up to 32 winners", "UNSAFE: Never lock here", patient.bucket):
        assert word in text
    for secret in ("AKIASECRETKEY", "verysecretsecret"):
        assert secret not in text


def test_the_environment_can_name_the_store(run: Run, checkmate_file_url: str, tmp_path: Path) -> None:
    result = run("doctor", "--json", "--rounds", "1", CHECKMATE_URL=checkmate_file_url)
    assert json.loads(result.stdout)["doors"][0]["base_url"] == checkmate_file_url
    elsewhere = str(tmp_path / "elsewhere")
    result = run("doctor", elsewhere, "--json", "--rounds", "1", CHECKMATE_URL=checkmate_file_url)
    assert [each["base_url"] for each in json.loads(result.stdout)["doors"]] == [f"file://{elsewhere}"]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("doctor",), 2, "Missing argument"),
        (("doctor", "x", "--rounds", "0"), 2, "--rounds"),
        (("doctor", "gs4://bucket/x"), 5, "no backend for gs4://"),
        (("doctor", "s3://user:pw@bucket/x"), 5, "credentials"),
    ],
)
def test_what_cannot_be_examined_is_an_error(
    run: Run, arguments: tuple[str, ...], code: int, word: str
) -> None:
    result = run(*arguments, CHECKMATE_URL=None)
    assert result.exit_code == code
    assert word in result.stderr
    assert result.stdout == ""


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
