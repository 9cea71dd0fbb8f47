"""The module that the type checkers read does what it says."""

import importlib.util
import sys
from pathlib import Path


def load(name: str) -> object:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("api.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_typed_use_of_the_api_also_runs(checkmate_file_url: str) -> None:
    name = "typed_api_example"
    try:
        main = getattr(load(name), "main")  # noqa: B009 - the module has no type here
        main(checkmate_file_url)
    finally:
        sys.modules.pop(name, None)
