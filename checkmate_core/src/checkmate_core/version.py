"""The one version of all distributions, without the cost of reading package metadata."""

from typing import Final

__version__: Final = "0.9.0"
