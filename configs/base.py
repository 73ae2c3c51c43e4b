"""The paper's pretraining recipe: ViT-B for both modalities, 800 epochs at batch size 256.

The other configs call `get_config()` and change some fields. Any field can be set on the command
line, as in `--config.optimizer.learning_rate=3e-4`; unknown names are refused.
xkd_jax/config/pretraining.py lists every field with its default, allowed values and meaning.
"""

from xkd_jax.config.pretraining import DECODERS, ENCODERS, get_config, transformer

__all__ = ["DECODERS", "ENCODERS", "get_config", "transformer"]
