"""The shipped configs of evaluations, by their task."""

import importlib
import pkgutil
from collections.abc import Iterator

import configs.eval


def probes() -> Iterator[str]:
    """Yields the names of the probes' configs in configs/eval."""
    for module in pkgutil.iter_modules(configs.eval.__path__):
        make = getattr(importlib.import_module(f"configs.eval.{module.name}"), "get_config", None)
        if make and make().task == "probe":
            yield module.name
