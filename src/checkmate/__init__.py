"""CheckMate: durable execution with nothing but a bucket.

The public names live in `checkmate_core` and are loaded when first used, so that importing this
package costs next to nothing and loads no backend, no SDK and no CLI.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from checkmate_core import *  # noqa: F403
    from checkmate_core import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        core = import_module("checkmate_core")
        if name == "__all__":
            return list(core.__all__)
        if name not in core.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(core, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *import_module("checkmate_core").__all__})
