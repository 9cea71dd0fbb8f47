"""Orders whose process dies at each of its writes: `test_saga` runs this and reads what it prints."""

import json
import sys
from pathlib import Path

from saga_cm import OrderState, cm_factory_saga
from saga_shop import describe_shop, open_shop
from tests.examples.deaths import every_death

from checkmate import StageFailedException, TaskIO, TaskRolledBackException


def main(folder: Path) -> None:
    database = str(folder / "shop.sqlite")
    open_shop(database, {"lamp": 1000}, {"ada": 1_000_000})
    ended: dict[str, int] = {}
    for address in ("somewhere", "nowhere"):

        def run(io: TaskIO, order_id: str, address: str = address) -> int:
            order = OrderState(item="lamp", count=2, customer="ada", cents=9000, address=address)
            try:
                cm_factory_saga(io, order_id, database, order).run()
            except (StageFailedException, TaskRolledBackException):
                return 1
            return 0

        ended.update(every_death((folder / "tasks").as_uri(), address, run))
    print(json.dumps({"ended": ended, "shop": describe_shop(database)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
