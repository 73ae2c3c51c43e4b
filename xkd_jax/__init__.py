"""XKD in JAX: pretraining, evaluation and pictures. Imports no TensorFlow."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xkd_jax.api import pretrain as pretrain
    from xkd_jax.encoders.pretrained_encoder import load_encoder as load_encoder

__all__ = ["load_encoder", "pretrain"]

__version__ = "0.1.0"

# Functions, and the modules that have them.
_FUNCTIONS = {
    "load_encoder": "xkd_jax.encoders.pretrained_encoder",
    "pretrain": "xkd_jax.api",
}


def __getattr__(name: str) -> Any:
    """Imports a function when it is first used: some import JAX, Flax and Orbax."""
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
