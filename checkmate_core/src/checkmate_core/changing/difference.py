"""What differs between two lists of stages, what of it is declared, and how it reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from checkmate_core.changing.changes import StageChanges

Stage = tuple[str, str]
"""A stage's name and the qualified name of its class."""


@dataclass(slots=True)
class StageDifference:
    """The way from one list of stages to another.

    Attributes:
        origins: For each stage of the new list its position in the old one; None for a new stage.
        declared: The changes that were declared, in words.
        undeclared: Those that were not, in words.
        contradictions: What was declared and cannot be of these lists, in words.
        missing: What the declaration lacks.
    """

    origins: list[int | None]
    declared: list[str] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    missing: dict[str, object] = field(default_factory=dict)

    @property
    def suggestion(self) -> str:
        """What to declare, as code."""
        return f"StageChanges({', '.join(f'{name}={value!r}' for name, value in self.missing.items())})"


def find_difference(
    stored: Sequence[Stage], given: Sequence[Stage], changes: StageChanges
) -> StageDifference:
    """Compare the stages that a task has with those that it is to have."""
    new_names = [name for name, _ in given]
    found = StageDifference(origins=[None] * len(given))
    gone = _match(stored, new_names, changes, found)
    _guess_renames(stored, given, gone, changes, found)
    if gone:
        found.undeclared += [f"{stored[index][0]!r} is not there any more" for index in gone]
        found.missing["removed"] = {stored[index][0] for index in gone}
    added = [new for new, origin in enumerate(found.origins) if origin is None]
    found.declared += [f"{new_names[new]!r} is new" for new in added if new_names[new] in changes.added]
    if strange := [new_names[new] for new in added if new_names[new] not in changes.added]:
        found.undeclared += [f"{name!r} is new" for name in strange]
        found.missing["added"] = set(strange)
    _compare_order(new_names, changes, found)
    _compare_classes(stored, given, changes, found)
    return found


def _match(
    stored: Sequence[Stage], new_names: Sequence[str], changes: StageChanges, found: StageDifference
) -> list[int]:
    """Note where each stage is now; return the positions of those for which nothing tells."""
    old_names = [name for name, _ in stored]
    gone = []
    for index, old in enumerate(old_names):
        new = changes.renamed.get(old, old)
        if new != old and new in old_names:
            found.contradictions.append(f"{old!r} is said to have become {new!r}, but the task has both")
        elif old in changes.removed:
            found.declared.append(f"{old!r} is removed")
        elif new not in new_names:
            gone.append(index)
        elif (position := new_names.index(new)) < len(new_names) and found.origins[position] is not None:
            found.contradictions.append(f"two stages of the task are said to have become {new!r}")
        else:
            found.origins[position] = index
            if new != old:
                found.declared.append(f"{old!r} is now {new!r}")
    return gone


def _guess_renames(
    stored: Sequence[Stage],
    given: Sequence[Stage],
    gone: list[int],
    changes: StageChanges,
    found: StageDifference,
) -> None:
    """A stage that is gone and a new one of its class in its place look like one that was renamed."""
    renamed = {}
    for index in list(gone):
        if index < len(given) and found.origins[index] is None:
            (old, old_class), (new, new_class) = stored[index], given[index]
            if old_class == new_class and new not in changes.added:
                found.origins[index] = index
                gone.remove(index)
                renamed[old] = new
                found.undeclared.append(f"{old!r} is now {new!r}, it seems")
    if renamed:
        found.missing["renamed"] = renamed


def _compare_order(new_names: Sequence[str], changes: StageChanges, found: StageDifference) -> None:
    kept = [origin for origin in found.origins if origin is not None]
    if kept == sorted(kept):
        return
    order = [name for name, origin in zip(new_names, found.origins, strict=True) if origin is not None]
    text = f"the order is now {', '.join(map(repr, order))}"
    if changes.reordered:
        found.declared.append(text)
    else:
        found.undeclared.append(text)
        found.missing["reordered"] = True


def _compare_classes(
    stored: Sequence[Stage], given: Sequence[Stage], changes: StageChanges, found: StageDifference
) -> None:
    classes = {}
    for (name, new_class), origin in zip(given, found.origins, strict=True):
        old_class = new_class if origin is None else stored[origin][1]
        if old_class == new_class:
            continue
        text = f"the class of {name!r} was {old_class} and is {new_class}"
        if old_class in changes.old_classes(name):
            found.declared.append(text)
        else:
            found.undeclared.append(text)
            classes[name] = old_class
    if classes:
        found.missing["classes"] = classes
