"""From findings to a verdict, in words."""

from collections.abc import Iterator, Sequence

from checkmate_core.doctor.findings import Door, Race, Verdict

_ELSEWHERE = "Use another store, or no_lock=True if surely only one worker exists"


def judge(doors: Sequence[Door], races: Sequence[Race]) -> tuple[Verdict, str]:
    """The verdict, and why, and what to do. The worst finding counts."""
    fault = next(_faults(doors, races), None)
    if fault:
        return Verdict.UNSAFE, f"Never lock here: {fault}. {_ELSEWHERE}."
    refused = next(_refusals(doors, races), None)
    if refused:
        return Verdict.UNUSABLE, f"The store cannot be worked with as it is: {_sentence(refused)}"
    lacking = next(_lacks(doors), None)
    if lacking:
        return (
            Verdict.NO_LOCKS,
            f"Locks cannot be held here, and only no_lock=True works: {_sentence(lacking)}",
        )
    if all(door.is_known_good for door in doors):
        return (
            Verdict.SAFE,
            "This store is known to honour what locks are made of, and every check passed. Nothing to do.",
        )
    return (
        Verdict.UNPROVEN,
        "Every check passed, and locks may be held here. But this store is none that is known to be good, and a "
        "race can show a fault, never its absence: ask its makers whether conditional writes are atomic across "
        "all of its nodes, and race all of them (checkmate doctor URL URL …).",
    )


def _faults(doors: Sequence[Door], races: Sequence[Race]) -> Iterator[str]:
    for door in doors:
        for condition in door.conditions:
            if condition.fault:
                yield f"{door.base_url} {condition.fault.removeprefix('it ')}"
    for race in races:
        rounds = len(race.winners)
        won_by_many = sum(winners > 1 for winners in race.winners)
        if won_by_many:
            yield (
                f"in {won_by_many} of {rounds} rounds more than one of {race.contenders} writers was told that its "
                f"{race.kind} had won, so that two workers could own one task"
            )
        for fault in race.faults:
            yield f"in a race of {race.contenders} for one {race.kind}, {fault}"


def _refusals(doors: Sequence[Door], races: Sequence[Race]) -> Iterator[str]:
    for number, door in enumerate(doors, start=1):
        through = f"through URL number {number}: " if len(doors) > 1 else ""
        for permission in door.permissions:
            if permission.error and not permission.is_unsupported:
                yield through + permission.error
        for condition in door.conditions:
            if condition.error:
                yield f"{through}whether it refuses a {condition.name} could not be found out: {condition.error}"
    for race in races:
        lost = sum(winners == 0 for winners in race.winners)
        if lost:
            why = race.errors[0] if race.errors else "all were told that they had lost."
            yield (
                f"in {lost} of {len(race.winners)} rounds none of {race.contenders} writers got its {race.kind} "
                f"through: {why}"
            )


def _lacks(doors: Sequence[Door]) -> Iterator[str]:
    for door in doors:
        for permission in door.permissions:
            if permission.is_unsupported:
                yield f"{permission.operation}: {permission.error}"


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}."
