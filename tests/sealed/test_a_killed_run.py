"""A real run with a key from the environment, killed and resumed: no key is anywhere afterwards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checkmate import TaskStore

from .keys import NEW, OLD, holds_a_key, id_of, stored, text

WORKER = Path(__file__).with_name("worker.py")


def work(url: str, *, key: bytes = OLD, **environment: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-W", "error", str(WORKER), url],
        env={**os.environ, "OUR_KEY": text(key), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not holds_a_key(done.stdout + done.stderr)
    return done


@pytest.mark.parametrize("store", ["file", "s3"])
def test_a_run_that_is_killed_goes_on_and_leaves_no_key(
    store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    plain: str = request.getfixturevalue(f"checkmate_{store}_url")
    url = f"{plain}{'&' if '?' in plain else '?'}compress=zstd&key=env:OUR_KEY"
    assert work(url, DIE_IN="second").returncode == -signal.SIGKILL
    refused = work(url, key=NEW)
    assert refused.returncode == 1
    assert f"SealedObjectException: {plain.partition('?')[0]}" in refused.stderr
    assert f"sealed with the key {id_of(OLD)}, which is none of those given ({id_of(NEW)})" in refused.stderr
    resumed = work(url)
    assert (resumed.returncode, resumed.stdout) == (0, "3\n"), resumed.stderr

    found = stored(plain)
    assert {name.partition("/")[0] for name in found} == {"patient"}
    for name, data in found.items():
        assert data.startswith(b"\x89CMS"), name
        assert not holds_a_key(data)
        assert b"diagnosis" not in data
    [task] = TaskStore(plain, key=OLD).list()
    assert [stage.attempts for stage in task.stages] == [1, 2, 1]
    if store == "file":
        assert not any(holds_a_key(path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
