"""Claims whose process dies at each of its writes: `test_approval` runs this and reads what it prints."""

import json
import sys
from pathlib import Path

from approval_cm import cm_factory_approval
from tests.examples.deaths import every_death, in_child

from checkmate import (
    StageFailedException,
    TaskIO,
    TaskRolledBackException,
    TaskStore,
    TaskSuspendedException,
)


def main(folder: Path) -> None:
    url, budget = (folder / "tasks").as_uri(), folder / "budget"

    def run(io: TaskIO, claim: str) -> int:
        try:
            cm_factory_approval(io, claim, budget, 120).run()
        except TaskSuspendedException:
            return 7
        except (StageFailedException, TaskRolledBackException):
            return 1
        return 0

    def ask_and_answer(claim: str) -> None:
        def go() -> int:
            store = TaskStore(url)
            assert run(store.io, claim) == 7
            store.signal(claim, "decision", {"approved": claim.startswith("yes"), "by": "Ada"})
            return 0

        assert in_child(go) == 0

    ended = {
        **dict(every_death(url, "asked", run)),
        **dict(every_death(url, "yes", run, ask_and_answer)),
        **dict(every_death(url, "no", run, ask_and_answer)),
    }
    print(json.dumps({"ended": ended, "budget": sorted(each.name for each in budget.iterdir())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
