"""The saga as a user runs it, and by SIGKILL at each of its writes."""

import ast
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.examples.shell import EXAMPLES, checkmate, die, run


def shop_in(said: str) -> dict[str, Any]:
    shop: dict[str, Any] = ast.literal_eval(next(line for line in said.splitlines() if line.startswith("{")))
    return shop


FULL = {"stock": {"lamp": 10}, "accounts": {"ada": 20000}, "parcels": {}}


def test_an_order_is_shipped_in_11_requests_and_undone_in_15(tmp_path: Path) -> None:
    shop = ["--database", tmp_path / "shop.sqlite"]
    undone = run("saga", tmp_path / "tasks", "one", *shop, "--address", "nowhere", status=1)
    assert shop_in(undone) == FULL
    assert "no carrier goes to 'nowhere'" in undone
    assert "storage requests of this process: 15" in undone

    shipped = run("saga", tmp_path / "tasks", "two", *shop)
    assert shop_in(shipped) == {
        "stock": {"lamp": 8},
        "accounts": {"ada": 11000},
        "parcels": {"two": "12 Elm Street"},
    }
    assert "storage requests of this process: 11" in shipped


def test_a_kill_on_the_way_back_is_followed_by_the_rest_of_the_way(tmp_path: Path) -> None:
    url, script = tmp_path / "tasks", Path(__file__).parents[2] / "examples" / "saga" / "saga_cm.py"
    order = [url, "one", "--database", tmp_path / "shop.sqlite", "--count", "50"]
    order = [*order[:-2], "--address", "nowhere"]
    said = run("saga", *order, "--kill-at", "charge:ROLLED_BACK", status=-signal.SIGKILL)
    assert "reserve: ROLLING_BACK" not in said

    assert "was rolled back" in run("saga", *order, status=1) + checkmate("show", url, "one")
    assert shop_in(run("saga", *order, status=1)) == FULL
    checkmate("resume", url, "one", "--app", script, status=8)


@pytest.mark.slow
def test_an_order_ends_shipped_or_wholly_undone_at_whichever_write_its_process_dies(tmp_path: Path) -> None:
    found = die("saga", tmp_path)

    ended: dict[str, int] = found["ended"]
    shipped = {order for order, status in ended.items() if status == 0}
    assert shipped == {order for order in ended if order.startswith("somewhere")}
    assert {ended[order] for order in ended.keys() - shipped} == {1}
    # 10 writes and removes forwards, 14 forwards and back; before and after each, and one order that survives.
    assert (len(shipped), len(ended) - len(shipped)) == (22, 30)
    assert found["shop"] == {
        "stock": {"lamp": 1000 - 2 * len(shipped)},
        "accounts": {"ada": 1_000_000 - 9000 * len(shipped)},
        "parcels": dict.fromkeys(shipped, "somewhere"),
    }


def test_the_database_refuses_a_worker_that_lost_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "saga")
    from saga_shop import Shop, StaleWorkerError, describe_shop, open_shop

    path = str(tmp_path / "shop.sqlite")
    open_shop(path, {"lamp": 10}, {"ada": 20000})
    Shop(path, "one", 2).reserve("lamp", 2)

    with pytest.raises(StaleWorkerError):
        Shop(path, "one", 1).unreserve("lamp", 2)

    assert describe_shop(path)["stock"] == {"lamp": 8}
    Shop(path, "one", 2).reserve("lamp", 2)
    assert describe_shop(path)["stock"] == {"lamp": 8}
