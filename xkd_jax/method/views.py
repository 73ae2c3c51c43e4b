"""A batch as the networks see it: augmented views, and the noise that decides the masks."""

import jax
import jax.numpy as jnp
import ml_collections

from xkd_jax.method import augment
from xkd_jax.method.models.xkd import XKD, Views
from xkd_jax.method.randomness import Purpose, example_keys


def make_views(
    model: XKD, views: ml_collections.ConfigDict, batch: dict[str, jax.Array], seed: jax.Array
) -> dict[str, Views]:
    """Augments a batch's video and draws the noise that decides the masks.

    Args:
        model: The model, which says how many tokens each modality has.
        views: `config.views`.
        batch: Batch from the loader, arrays (B, ...).
        seed: () uint32, the seed of the run.

    Returns:
        The views of each modality.
    """

    def keys(purpose: Purpose) -> jax.Array:
        return example_keys(seed, batch["epoch"], batch["example_id"], purpose)

    def noise(purpose: Purpose, count: int) -> jax.Array:
        return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys(purpose))

    return {
        "video": Views(
            full=augment.augment_global(
                keys(Purpose.VIDEO_GLOBAL), batch["video_global"], views.video
            ),
            local=augment.augment_local(
                keys(Purpose.VIDEO_LOCAL), batch["video_local"], views.video
            ),
            noise=noise(Purpose.VIDEO_MASK, model.video.token_count),
            present=batch["has_video"].astype(jnp.float32),
        ),
        "audio": Views(
            full=batch["audio_global"],
            local=batch["audio_local"],
            noise=noise(Purpose.AUDIO_MASK, model.audio.token_count),
            present=batch["has_audio"].astype(jnp.float32),
        ),
    }
