"""`checkmate doctor`: may this store hold locks, and if not, what is to be done?"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from checkmate_core.doctor import Diagnosis, Door, Race, Verdict, examine

_STYLES = {
    Verdict.SAFE: "bold green",
    Verdict.UNPROVEN: "bold yellow",
    Verdict.UNSAFE: "bold red",
    Verdict.NO_LOCKS: "bold red",
    Verdict.UNUSABLE: "bold red",
}
_UNFIT = 5


@click.command()
@click.argument("urls", metavar="URL...", nargs=-1)
@click.option(
    "--rounds", type=click.IntRange(1), default=10, show_default=True, help="Of the races for one object."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def doctor(ctx: click.Context, urls: tuple[str, ...], rounds: int, as_json: bool) -> None:
    """Examine a store: permissions, conditional writes, races, latency, clock.

    Several URLs are doors to one store, such as the nodes of a cluster: the races go through all of
    them. It writes small objects below _probe/ and removes them. Exit code 0: locks may be held
    there; 5: they may not.
    """
    default = os.environ.get("CHECKMATE_URL")
    if not urls and not default:
        raise click.UsageError("Missing argument 'URL...'.", ctx)
    diagnosis = examine(urls or [default or ""], rounds=rounds)
    if as_json:
        click.echo(json.dumps(asdict(diagnosis), indent=2, ensure_ascii=False))
    else:
        _print(diagnosis)
    ctx.exit(0 if diagnosis.verdict.may_lock else _UNFIT)


def _print(diagnosis: Diagnosis) -> None:
    console = Console()
    for door in diagnosis.doors:
        console.print(f"[bold]{escape(door.base_url)}[/bold]  {escape(door.endpoint or '')}")
        console.print(f"{escape(door.backend)}: {', '.join(door.capabilities)}")
        console.print(_table(_rows_of(door)))
    if diagnosis.races:
        console.print(_table(_rows_of_races(diagnosis.races)))
    style = _STYLES[diagnosis.verdict]
    console.print(f"[{style}]{diagnosis.verdict}[/{style}]: {escape(diagnosis.reason)}")


def _table(rows: Iterator[tuple[str, str, str]]) -> Table:
    table = Table("Check", Column("Result", no_wrap=True), Column("Detail", overflow="fold"))
    for check, result, detail in rows:
        style = {"ok": "green", "bad": "red"}.get(result)
        table.add_row(check, f"[{style}]{result}[/{style}]" if style else result, escape(detail))
    return table


def _rows_of(door: Door) -> Iterator[tuple[str, str, str]]:
    for permission in door.permissions:
        yield (
            f"permitted: {permission.operation}",
            "bad" if permission.error else "ok",
            permission.error or "",
        )
    for condition in door.conditions:
        detail = condition.fault or condition.error
        yield f"refused: {condition.name}", "bad" if detail else "ok", detail or ""
    for latency in door.latencies:
        result = f"{latency.median_ms:.2f} ms"
        yield (
            f"latency of a {latency.operation}",
            result,
            f"worst of {latency.requests}: {latency.worst_ms:.2f} ms",
        )
    if door.clock:
        clock = door.clock
        detail = f"store less this host, within {clock.uncertainty:.3f} s; its times are given to {clock.resolution:g} s"
        yield "clock", f"{clock.seconds:+.3f} s", detail
    for url in door.left_behind:
        yield "left behind", "bad", f"{url} could not be removed: remove it by hand"


def _rows_of_races(races: tuple[Race, ...]) -> Iterator[tuple[str, str, str]]:
    for race in races:
        rounds = len(race.winners)
        single = sum(winners == 1 for winners in race.winners)
        notes = [f"one winner in {single} of {rounds} rounds"]
        if max(race.winners) > 1:
            notes.append(f"up to {max(race.winners)} winners")
        notes += [*race.faults, *race.errors]
        is_good = single == rounds and not race.faults
        yield f"{race.contenders} race for one {race.kind}", "ok" if is_good else "bad", "; ".join(notes)
