"""XKD in JAX: pretraining, evaluation and pictures. Imports no TensorFlow."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xkd_jax.encoders.pretrained_encoder import load_encoder as load_encoder

__all__ = ["load_encoder"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports `load_encoder` when it is first used, because it imports JAX, Flax and Orbax."""
    if name == "load_encoder":
        from xkd_jax.encoders.pretrained_encoder import load_encoder

        return load_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
