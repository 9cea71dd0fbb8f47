"""What happened in a run, line by line, the same for the same seed.

Identities (owners, versions) are random in every run, so the trace names them by the order in which
they appear.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Nonce:
    """A random identity that a trace line mentions.

    Attributes:
        kind: What it identifies: begins its name.
        value: The identity.
    """

    kind: str
    value: str | None


class Trace:
    """Lines with their virtual time and who did it; turned into text only when somebody reads them."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, str, str, tuple[object, ...]]] = []

    def note(self, time: float, who: str, text: str, *args: object) -> None:
        """Add a line; ``args`` are filled into the ``{}`` of ``text``, nonces and bodies by their names."""
        self._entries.append((time, who, text, args))

    def lines(self) -> list[str]:
        """All lines."""
        names: dict[Nonce, str] = {}
        counts: dict[str, int] = {}

        def show(arg: object) -> object:
            if isinstance(arg, Nonce):
                if arg.value is None:
                    return "nobody"
                if arg not in names:
                    counts[arg.kind] = counts.get(arg.kind, 0) + 1
                    names[arg] = f"{arg.kind}{counts[arg.kind]}"
                return names[arg]
            if isinstance(arg, dict):
                return " ".join(str(show(part)) for part in describe(arg))
            return arg

        return [
            f"{time:9.3f}  {who:<6} {text.format(*map(show, args))}"
            for time, who, text, args in self._entries
        ]

    def text(self, last: int | None = None) -> str:
        """The lines as one text, or only the last of them."""
        lines = self.lines()
        kept = lines if last is None else lines[-last:]
        omitted = [f"({len(lines) - len(kept)} earlier lines)"] if len(kept) < len(lines) else []
        return "\n".join([*omitted, *kept])

    def digest(self) -> str:
        """A short name of the whole trace."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]


def describe(body: Body) -> list[object]:
    """A stored document, in words and nonces."""
    owner = Nonce("owner", body.get("owner"))
    if "renewed_at" in body:
        return ["held by" if body["owner"] else "released:", owner, f"epoch {body['epoch']}"]
    if "stage_templates" in body:
        what = "tombstone" if body["removed"] else f"ended {body['ended_as']}" if body["ended"] else "begun"
        names = "/".join(template["stage_name"] for template in body["stage_templates"])
        return [what, names, f"life {body['base_epoch']} epoch {body['epoch']}", owner]
    if "status" not in body:
        words = ("event", "data", "reason", "base_epoch")
        return [f"{word} {body[word]}" for word in words if word in body] or ["artifact"]
    mark = "migrating " if body.get("migrating") else ""
    return [
        f"{mark}{body['status']} attempt {body['attempts']} life {body['base_epoch']} epoch {body['epoch']}",
        owner,
    ]
