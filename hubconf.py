"""Entry points for `torch.hub`: encoders that --format=huggingface has exported, without JAX.

model = torch.hub.load(CLONE, "xkd", DIR, source="local")
processor = torch.hub.load(CLONE, "xkd_processor", DIR, source="local")
"""

from typing import Any

dependencies = ["torch", "transformers"]


def xkd(folder: str, **config: Any) -> Any:
    """Loads the encoders of a folder that xkd_jax.interop.export wrote with --format=huggingface.

    Args:
        folder: The folder.
        **config: Fields of its config to change, such as `network="student"`.
    """
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, trust_remote_code=True, **config).eval()


def xkd_processor(folder: str) -> Any:
    """Loads the preprocessing of a folder that xkd_jax.interop.export wrote."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, trust_remote_code=True)
