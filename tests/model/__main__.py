"""``python -m tests.model``: explore the protocol, or show how a variant of it breaks."""

import argparse
from dataclasses import fields, replace

from .search import search
from .variants import VARIANTS, Bounds


def main() -> int:
    """Search as the arguments say; 1 if an invariant is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument(
        "--variant", choices=sorted(VARIANTS), help="a broken variant, in the bounds that show it"
    )
    parser.add_argument("--max-states", type=int, help="stop after so many states")
    for bound in fields(Bounds):
        name = f"--{bound.name.replace('_', '-')}"
        if isinstance(bound.default, bool):
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(name, type=int)
    given = vars(parser.parse_args())
    variant = VARIANTS.get(given.pop("variant") or "")
    max_states = given.pop("max_states")
    bounds = replace(
        variant.bounds if variant else Bounds(),
        **{name: value for name, value in given.items() if value is not None},
    )
    found = search(bounds, variant.flaw if variant else None, max_states=max_states)
    print(bounds)
    print(found.describe())
    if not found.broken:
        print("Every invariant holds.")
        return 0
    if variant:
        print(f"Variant: {variant.flaw.value}.")
    print(f"Broken: {found.broken}. The shortest way there:")
    for number, words in enumerate(found.trace, 1):
        print(f"{number:4}. {words}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
