"""Counts the operations of a training step's matrix products from their shapes.

A multiplication and its addition count as two operations, as usual. Everything except matrix
products is left out: it is less than 1%.
"""

import itertools
import math
from collections.abc import Mapping

import ml_collections

from xkd_jax.downstream.attentive_heads import Heads
from xkd_jax.method.models.masked_autoencoder import kept_count
from xkd_jax.method.models.patches import patch_values, token_grid
from xkd_jax.method.models.vit import Encoder
from xkd_jax.method.models.xkd import MODALITIES, XKD, Modality, view_extents


def per_clip(model: XKD, views: ml_collections.ConfigDict) -> dict[str, float]:
    """Counts the operations of one pretraining step for one clip.

    Args:
        model: The model.
        views: `config.views`.

    Returns:
        Operations by part: `teachers` (forward); `student_encoders`, `decoders` and `heads`
        (forward and backward). `heads` includes those of the teachers.
    """
    counts = dict.fromkeys(("teachers", "student_encoders", "decoders", "heads"), 0.0)
    for m in MODALITIES:
        modality, local_views = getattr(model, m), views[m].local_count
        patches = modality.token_count
        kept = kept_count(patches, modality.mask_ratio)
        local_patches = math.prod(token_grid(view_extents(views, m, "local"), modality.patch))
        counts["teachers"] += _encoder(modality, patches)
        counts["student_encoders"] += 3 * _encoder(modality, kept)
        counts["student_encoders"] += 3 * local_views * _encoder(modality, local_patches)
        counts["decoders"] += 3 * _decoder(modality, kept, patches)
        # One view of the teacher forward, 1 + n views of the student forward and backward.
        counts["heads"] += (1 + 3 * (1 + local_views)) * _head(modality)
    return counts


def finetuning_per_clip(encoder: Encoder, values: int, classes: int) -> dict[str, float]:
    """Counts the operations of one finetuning step for one clip.

    Args:
        encoder: The encoder; its grid is that of the inputs.
        values: Number of values in a patch.
        classes: Number of classes of the head.

    Returns:
        Operations by part, forward and backward: `encoder` and `head`.
    """
    patches = math.prod(encoder.grid)
    return {
        "encoder": 3 * _vit(encoder, values, patches),
        "head": 3 * 2.0 * encoder.width * classes,
    }


def attentive_per_clip(heads: Heads, grids: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Counts the operations of one step of an attentive probe for one clip.

    Args:
        heads: The frozen encoders and the heads on them.
        grids: Numbers of tokens along each axis of a view, by modality.

    Returns:
        Operations by part: `encoder` (forward) and `heads` (forward and backward, of all heads).
    """
    width, tokens = heads.pooler.width, {m: math.prod(grid) for m, grid in grids.items()}
    encoders = sum(
        _vit(encoder, patch_values(patch), tokens[m])
        for m, (encoder, patch) in heads.encoders.items()
    )
    count = sum(tokens.values())
    # Keys and values of all tokens, the products with the one query, the output and the MLP.
    cross = 4.0 * count * width**2 + 4.0 * count * width + 18.0 * width**2
    embeddings = sum(
        2.0 * tokens[m] * encoder.width * width
        for m, (encoder, _) in heads.encoders.items()
        if encoder.width != width
    )
    head = embeddings + _transformer(count, width, heads.pooler.blocks - 1) + cross
    return {
        "encoder": encoders,
        "heads": 3 * heads.count * (head + 2.0 * width * heads.classes),
    }


def _transformer(tokens: int, width: int, depth: int) -> float:
    """Counts the blocks' operations: 24 tokens width^2 of dense layers, and those of attention."""
    return depth * (24.0 * tokens * width**2 + 4.0 * tokens**2 * width)


def _encoder(modality: Modality, patches: int) -> float:
    return _vit(modality.encoder, modality.decoder.patch_size, patches)


def _vit(encoder: Encoder, values: int, patches: int) -> float:
    embedding = 2.0 * patches * values * encoder.width
    return embedding + _transformer(encoder.cls + patches, encoder.width, encoder.depth)


def _decoder(modality: Modality, kept: int, patches: int) -> float:
    decoder = modality.decoder
    embedding = 2.0 * (decoder.cls + kept) * modality.encoder.width * decoder.width
    prediction = 2.0 * patches * decoder.width * decoder.patch_size
    return (
        embedding + _transformer(decoder.cls + patches, decoder.width, decoder.depth) + prediction
    )


def _head(modality: Modality) -> float:
    head = modality.projector
    widths = [modality.encoder.width, *[head.hidden] * (head.layers - 1), head.bottleneck, head.out]
    return sum(2.0 * a * b for a, b in itertools.pairwise(widths))
