"""Workers that stand still, within their lease and past it."""

import signal
import time
from pathlib import Path

import pytest

from checkmate_core import StageStatus, TaskIO, TaskStore, open_task_io
from checkmate_core.layout import LOCKS_PREFIX

from .checks import check_finished, executions
from .pipeline import Job
from .tallies import Tally
from .workers import Ended, Worker, Workers, wait_until

# All of them wait for a lease.
pytestmark = pytest.mark.slow

HELD = 2
LEASE = 6.0


def raw(io: TaskIO) -> dict[str, bytes]:
    """Everything that is stored but locks, which their holders renew all the time, byte for byte."""
    names = [info.name for info in io.list() if not info.name.startswith(LOCKS_PREFIX)]
    return {name: stored.data for name, stored in io.read_many(names).items()}


def held(job: Job, log: Path, workers: Workers) -> Worker:
    """A worker that is in the stage that it is held in."""
    worker = workers.start(job)
    wait_until(lambda: worker.has_ended or len(executions(log)["t"]) > HELD)
    assert not worker.has_ended, worker.wait()
    return worker


def stopped(job: Job, log: Path, workers: Workers) -> Worker:
    """A worker that was stopped in the stage that it is held in."""
    worker = held(job, log, workers)
    worker.stop()
    return worker


def continued(zombie: Worker, tally: Tally) -> Ended:
    fenced = tally.fenced
    zombie.signal(signal.SIGCONT)
    ended = zombie.wait()
    assert ended.returncode == 1
    assert ended.was_fenced, ended
    assert tally.fenced == fenced + 1
    return ended


def test_who_wakes_past_the_lease_after_the_task_was_finished_stores_nothing(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    gate, io = log.with_name("gate"), open_task_io(url)
    zombie = stopped(
        Job(url=url, task_ids=["t"], log=str(log), lease=LEASE, hold=HELD, gate=str(gate)), log, workers
    )
    second = workers.start(Job(url=url, task_ids=["t"], log=str(log), wait=100.0))
    # It lives on this very host, so that only its lease says that it can be replaced.
    assert second.finish().took_over_by_lease
    check_finished(url, "t", log, tally)
    finished = {info.name: io.read(info.name).data for info in io.list()}
    gate.touch()
    continued(zombie, tally)
    assert {info.name: io.read(info.name).data for info in io.list()} == finished
    check_finished(url, "t", log, tally)
    assert [each.pid for each in executions(log)["t"]] == [zombie.pid] * 3 + [second.pid] * 4


def test_who_wakes_past_the_lease_while_the_next_one_is_at_the_same_stage_stores_nothing(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    gate, second_gate, io = log.with_name("gate"), log.with_name("second gate"), open_task_io(url)
    zombie = stopped(
        Job(url=url, task_ids=["t"], log=str(log), lease=LEASE, hold=HELD, gate=str(gate)), log, workers
    )
    second = workers.start(
        Job(url=url, task_ids=["t"], log=str(log), wait=100.0, hold=HELD, gate=str(second_gate))
    )
    wait_until(lambda: len(executions(log)["t"]) > HELD + 1)
    before = raw(io)
    gate.touch()
    continued(zombie, tally)
    assert raw(io) == before
    task = TaskStore(url).get("t")
    assert task.stages[HELD].status is StageStatus.RUNNING
    assert f"pid {second.pid}" in str(task.holder), "the zombie must not release what is another's"
    second_gate.touch()
    assert second.finish().took_over_by_lease
    check_finished(url, "t", log, tally)


@pytest.mark.parametrize("question", ["check_alive", "lock_lost"])
def test_a_stage_that_asks_notices_that_it_was_stopped_for_too_long(
    url: str, log: Path, workers: Workers, tally: Tally, question: str
) -> None:
    """Even if nobody took the task over, and without a request: its gate stays closed."""
    zombie = stopped(
        Job(
            url=url,
            task_ids=["t"],
            log=str(log),
            lease=LEASE,
            hold=HELD,
            gate=str(log.with_name("never")),
            ask=question,
        ),
        log,
        workers,
    )
    io = open_task_io(url)
    before, began = raw(io), time.monotonic()
    wait_until(lambda: time.monotonic() - began > LEASE)
    assert "last renewed" in continued(zombie, tally).said["message"]
    assert raw(io) == before
    assert not log.with_name("executions.log.rollbacks").exists(), "what it left is the next owner's"
    # Nobody had taken it, so it could give it back.
    assert TaskStore(url).get("t").holder is None
    last = workers.start(Job(url=url, task_ids=["t"], log=str(log))).finish()
    assert not last.took_over
    check_finished(url, "t", log, tally)


def test_who_wakes_within_the_lease_goes_on_unharmed(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    gate = log.with_name("gate")
    job = Job(url=url, task_ids=["t"], log=str(log), lease=100.0, hold=HELD, gate=str(gate))
    worker = stopped(job, log, workers)
    # Nobody takes over from it meanwhile: who does not wait is told so.
    other = workers.start(Job(url=url, task_ids=["t"], log=str(log))).wait()
    assert other.said["error"] == "BindException"
    gate.touch()
    worker.signal(signal.SIGCONT)
    worker.finish()
    check_finished(url, "t", log, tally)
    assert {each.pid for each in executions(log)["t"]} == {worker.pid}


def test_who_is_held_up_for_longer_than_its_lease_but_lives_keeps_the_task(
    url: str, log: Path, workers: Workers, tally: Tally
) -> None:
    """It renews meanwhile, so that somebody who waits for twice the lease waits in vain."""
    gate, lease = log.with_name("gate"), 3.0
    holder = workers.start(Job(url=url, task_ids=["t"], log=str(log), lease=lease, hold=HELD, gate=str(gate)))
    wait_until(lambda: len(executions(log)["t"]) > HELD)
    other = workers.start(Job(url=url, task_ids=["t"], log=str(log), wait=2 * lease)).wait()
    assert other.said["error"] == "BindException", other
    gate.touch()
    holder.finish()
    check_finished(url, "t", log, tally)
