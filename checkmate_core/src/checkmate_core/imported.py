"""Names of classes as they are stored, and finding the classes again without importing anything."""

import sys
from pathlib import Path
from typing import Any

# What the script is called in its own process, and in the processes that multiprocessing spawns.
_MAIN_MODULES = ("__main__", "__mp_main__")


def qualified_name(target: type) -> str:
    """``module.name`` of a class; in the script being run, the name it would be imported under."""
    module = target.__module__
    return f"{_main_name() if module in _MAIN_MODULES else module}.{target.__qualname__}"


def find_imported(name: str) -> type | None:
    """The class of this qualified name among the modules already imported; None if there is none.

    A name read from a store is never imported: that would let whoever can write to the store run
    code.
    """
    modules = dict(sys.modules)
    if "__main__" in modules:
        modules[_main_name()] = modules["__main__"]
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        found: Any = modules.get(".".join(parts[:cut]))
        for part in parts[cut:]:
            found = getattr(found, part, None)
        if isinstance(found, type):
            return found
    return None


def _main_name() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        return "__main__"
    path = Path(file).resolve()
    parts = [path.stem]
    while (path.parent / "__init__.py").exists():
        path = path.parent
        parts.insert(0, path.name)
    return ".".join(parts)
