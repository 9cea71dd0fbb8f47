"""Workers whose store cannot be reached, for a while or for longer than their lease."""

from pathlib import Path

import pytest

from checkmate_core import TaskStore, open_task_io
from checkmate_core.layout import lock_object_name
from checkmate_core.lock_record import read_lock

from .checks import check_finished, executions
from .pipeline import Job
from .proxy import Fault, Proxy
from .tallies import Tally
from .workers import Worker, Workers, wait_until

HELD = 2
LEASE = 6.0


def held(job: Job, log: Path, workers: Workers) -> Worker:
    worker = workers.start(job)
    wait_until(lambda: worker.has_ended or len(executions(log)["t"]) > HELD)
    assert not worker.has_ended, worker.wait()
    return worker


@pytest.mark.slow
@pytest.mark.parametrize("is_cut", [True, False], ids=["cut off", "stalled"])
def test_who_cannot_reach_the_store_for_a_whole_lease_is_replaced_and_fenced(
    checkmate_s3_url: str,
    proxied_url: str,
    proxy: Proxy,
    log: Path,
    workers: Workers,
    tally: Tally,
    is_cut: bool,
) -> None:
    gate = log.with_name("gate")
    job = Job(url=proxied_url, task_ids=["t"], log=str(log), lease=LEASE, hold=HELD, gate=str(gate))
    first = held(job, log, workers)
    if is_cut:
        proxy.cut_off()
    else:
        proxy.plan = lambda: Fault.STALL
    second = workers.start(Job(url=checkmate_s3_url, task_ids=["t"], log=str(log), wait=100.0))
    assert second.finish().took_over_by_lease
    check_finished(checkmate_s3_url, "t", log, tally)
    finished = TaskStore(checkmate_s3_url).dump("t")
    proxy.restore()
    proxy.plan = lambda: Fault.PASS
    gate.touch()
    assert first.wait().was_fenced, first.wait()
    assert TaskStore(checkmate_s3_url).dump("t") == finished


@pytest.mark.slow
def test_who_never_reaches_the_store_again_stops_all_the_same(
    checkmate_s3_url: str, proxied_url: str, proxy: Proxy, log: Path, workers: Workers, tally: Tally
) -> None:
    """It is told that the task is lost, not that it could not be released."""
    job = Job(
        url=proxied_url,
        task_ids=["t"],
        log=str(log),
        lease=LEASE,
        hold=HELD,
        gate=str(log.with_name("never")),
        ask="check_alive",
    )
    first = held(job, log, workers)
    proxy.cut_off()
    ended = first.wait()
    assert ended.was_fenced, ended
    second = workers.start(Job(url=checkmate_s3_url, task_ids=["t"], log=str(log), wait=100.0))
    second.finish()
    check_finished(checkmate_s3_url, "t", log, tally)


@pytest.mark.slow
def test_an_outage_shorter_than_the_lease_is_survived(
    checkmate_s3_url: str, proxied_url: str, proxy: Proxy, log: Path, workers: Workers, tally: Tally
) -> None:
    gate, direct = log.with_name("gate"), open_task_io(checkmate_s3_url)
    job = Job(url=proxied_url, task_ids=["t"], log=str(log), lease=20.0, hold=HELD, gate=str(gate))
    worker = held(job, log, workers)
    proxy.cut_off()
    before = read_lock(direct, lock_object_name("t"))
    wait_until(lambda: proxy.refused > 0)
    proxy.restore()
    wait_until(lambda: read_lock(direct, lock_object_name("t")) != before)
    gate.touch()
    ended = worker.finish()
    check_finished(checkmate_s3_url, "t", log, tally)
    assert {each.pid for each in executions(log)["t"]} == {worker.pid}, ended
