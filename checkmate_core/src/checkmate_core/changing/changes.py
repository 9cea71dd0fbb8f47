"""StageChanges: what an application says has changed in its stages while tasks were in flight."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from checkmate_core.errors import TaskEngineException


@dataclass(frozen=True, kw_only=True, slots=True)
class StageChanges:
    """How the stages of stored tasks became those of this code.

    A stored task with other stages is refused, unless this says of every difference that it is meant. What it
    says is done once a task; of a task that has it behind it already, and of a new one, it says nothing. So the
    same code runs old, changed and new tasks, and the declaration can stay until no old task is left.

    Attributes:
        renamed: Old names, each with the new one.
        added: Names of stages that are new.
        removed: Names of stages that are no more.
        reordered: The stages have another order.
        classes: Names of stages (the new ones) with the qualified name that the stage's class had, or several.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    added: Collection[str] = ()
    removed: Collection[str] = ()
    reordered: bool = False
    classes: Mapping[str, str | Collection[str]] = field(default_factory=dict)

    def old_classes(self, stage_name: str) -> Collection[str]:
        """Names that the class of this stage had."""
        found = self.classes.get(stage_name, ())
        return (found,) if isinstance(found, str) else found

    def check(self, names: Sequence[str]) -> None:
        """Refuse a declaration that cannot be one of these stages.

        Args:
            names: Names of the stages of this code.

        Raises:
            TaskEngineException: It names as new what this code does not have, or as old what it has.
        """
        for what, given in (("added", self.added), ("removed", self.removed)):
            if isinstance(given, str):
                raise TaskEngineException(
                    f"StageChanges({what}={given!r}): give a set of names, {{{given!r}}}"
                )
        new = [("renamed", name) for name in self.renamed.values()]
        new += [("added", name) for name in self.added] + [("classes", name) for name in self.classes]
        for what, name in new:
            if name not in names:
                raise TaskEngineException(
                    f"StageChanges({what}=…) has {name!r} as a name of this code, which has no such stage, but "
                    f"{', '.join(map(repr, names))}"
                )
        old = [("renamed", name) for name in self.renamed] + [("removed", name) for name in self.removed]
        for what, name in old:
            if name in names:
                raise TaskEngineException(
                    f"StageChanges({what}=…) has {name!r} as a name of earlier code, but this code has such a stage"
                )
        twice = set(self.renamed) & set(self.removed) | set(self.renamed.values()) & set(self.added)
        if twice:
            raise TaskEngineException(
                f"StageChanges says two things of {', '.join(map(repr, sorted(twice)))}: renamed, and added or removed"
            )
