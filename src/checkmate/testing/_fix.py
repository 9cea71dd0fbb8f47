"""What to install for the fixtures."""

from typing import Final

FIX: Final = "pip install 'checkmate[testing]'"
