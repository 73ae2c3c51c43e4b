"""The Vision Transformer encoder for video and log-mel patches (docs/method.md, section 2)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xkd_jax import sharding
from xkd_jax.method.models.layers import Dtype, LayerNorm, QueryKeyValue, gelu, softmax, xavier
from xkd_jax.method.models.patches import patch_values, patchify, token_grid
from xkd_jax.method.models.positions import resize_positions

# Cut at two deviations, so that the true deviation is 0.0176. The release's is cut at 2.0, so that
# its deviation is 0.02 (docs/method.md, section 6).
truncated_normal = nn.initializers.truncated_normal(stddev=0.02)
normal = nn.initializers.normal(stddev=0.02)


# What the forward pass of a block saves. The backward pass computes the rest again.
REMAT = {
    "none": None,  # saves everything
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # the outputs of dense layers
    "full": jax.checkpoint_policies.nothing_saveable,  # only the block's input
}

# Largest number of blocks that the program for a CPU has one after another, not in a loop.
SHALLOW = 4

# Head widths that cuDNN's attention supports on every GPU that computes in bfloat16.
FUSED_WIDTHS = range(8, 129, 8)


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, count: int | None = None
) -> jax.Array:
    """Computes softmax attention, `softmax(q k^T / sqrt(W)) v`, with the softmax in float32.

    Args:
        query: (B, N, H, W) float.
        key: (B, N, H, W) float.
        value: (B, N, H, W) float.
        count: Number of real tokens; the others are padding at the end (see `padding`). None: N.

    Returns:
        (B, N, H, W), in the dtype of the inputs.
    """
    if _is_fused(query.dtype, query.shape[-1]):
        return _attend_fused(query, key, value, count)
    if sharding.platform() != "cpu":
        return jax.nn.dot_product_attention(query, key, value)
    # XLA on CPU multiplies contiguous (N, W) matrices 1.7 times faster than strided ones.
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    logits = jnp.einsum("bhqw,bhkw->bhqk", query, key, preferred_element_type=jnp.float32)
    weights = softmax(logits * query.shape[-1] ** -0.5).astype(value.dtype)
    return jnp.einsum("bhqk,bhkw->bhqw", weights, value).swapaxes(1, 2)


def _is_fused(dtype: Dtype, head_width: int) -> bool:
    """Returns whether attention runs as one cuDNN kernel."""
    return sharding.platform() == "gpu" and dtype == jnp.bfloat16 and head_width in FUSED_WIDTHS


def padding(count: int, dtype: Dtype, head_width: int) -> int:
    """Returns how many padding tokens to append to `count` tokens so that attention is fast.

    JAX cannot differentiate cuDNN's kernel for an odd number of tokens, and a CLS token plus an
    even number of patches are odd. Attention ignores the padding.
    """
    return count % 2 if _is_fused(dtype, head_width) else 0


def _attend_fused(
    query: jax.Array, key: jax.Array, value: jax.Array, count: int | None
) -> jax.Array:
    batch, padded = query.shape[:2]
    if count is not None:
        # Padding attends, so its outputs are finite, but nothing attends to it. Zeros make sure
        # that neither outputs nor gradients depend on how the kernel treats padded keys and values.
        key, value = (x.at[:, count:].set(0) for x in (key, value))
    # Without lengths, the kernel's gradients may be NaN if the number of keys is not a multiple of
    # its tile size (NVIDIA/cudnn-frontend, issues 160 and 1072).
    lengths = jnp.full((batch,), padded if count is None else count, jnp.int32)
    return jax.nn.dot_product_attention(
        query, key, value, key_value_seq_lengths=lengths, implementation="cudnn"
    )


def attention_row(
    query: jax.Array, key: jax.Array, kind: str, count: int | None = None
) -> jax.Array:
    """Computes one row for the whole attention map after the softmax, without building the map.

    Args:
        query: (B, N, H, W) float; for `cls`, CLS first.
        key: (B, N, H, W) float.
        kind: `cls`: the row of the CLS token (Eq. 3). `mean`: the row of the mean of all queries
            (appendix B.8, without CLS). `rows`: the mean of all rows (the same in the release).
        count: Number of real tokens, if padding follows them, which is ignored; None: N.

    Returns:
        (B, H, N or count) float32, which sums to 1.
    """
    if count is not None:
        query, key = query[:, :count], key[:, :count]
    if kind == "rows":
        return _mean_row(query, key)
    query = query[:, 0] if kind == "cls" else query.mean(axis=1, dtype=jnp.float32)
    logits = jnp.einsum(
        "bhw,bkhw->bhk", query.astype(key.dtype), key, preferred_element_type=jnp.float32
    )
    return jax.nn.softmax(logits * key.shape[-1] ** -0.5, axis=-1)


def _mean_row(query: jax.Array, key: jax.Array) -> jax.Array:
    """Computes the mean of all rows, some rows at a time, since the whole map is large."""
    batch, count, heads, width = query.shape
    size = max(n for n in range(1, 65) if count % n == 0)
    parts = jnp.moveaxis(query.reshape(batch, -1, size, heads, width), 1, 0)

    def add(total: jax.Array, part: jax.Array) -> tuple[jax.Array, None]:
        logits = jnp.einsum("bqhw,bkhw->bhqk", part, key, preferred_element_type=jnp.float32)
        rows = jax.nn.softmax(logits * width**-0.5, axis=-1)
        return total + rows.sum(axis=2), None

    total, _ = jax.lax.scan(add, jnp.zeros((batch, heads, count), jnp.float32), parts)
    return total / count


class Block(nn.Module):
    """Pre-norm transformer block: no bias on QKV, exact GELU, an MLP of 4 times the width.

    Attributes:
        width: D, the width of the tokens.
        heads: H, the number of heads; divides the width.
        row: Attention row to return, see `attention_row`; None returns no row.
        dtype: Dtype of the computation; parameters are float32.
        count: Number of real tokens, if padding follows them; None: all tokens are real.
    """

    width: int
    heads: int
    row: str | None = None
    dtype: Dtype = jnp.float32
    count: int | None = None

    @nn.compact
    def __call__(
        self, tokens: jax.Array, scales: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Applies the block.

        Args:
            tokens: (B, N, D).
            scales: (2, B) float, factors of the attention's and the MLP's output before they are
                added to the tokens; 1 by default.

        Returns:
            tokens: (B, N, D).
            row: (B, H, N) float32, the attention row, or None.
        """

        def dense(x: jax.Array, features: int, name: str) -> jax.Array:
            layer = nn.Dense(features, dtype=self.dtype, kernel_init=xavier, name=name)
            return sharding.by_example(layer(x))

        normed = LayerNorm(self.dtype, name="attention_norm")(tokens)
        qkv = QueryKeyValue(self.heads, self.dtype, name="qkv")(normed)
        query, key, value = (sharding.by_example(x) for x in qkv)
        row = attention_row(query, key, self.row, self.count) if self.row else None
        attended = attend(query, key, value, self.count).reshape(tokens.shape)
        attended = dense(attended, self.width, "out")
        tokens += attended if scales is None else _scaled(attended, scales[0])

        normed = LayerNorm(self.dtype, name="mlp_norm")(tokens)
        hidden = gelu(dense(normed, 4 * self.width, "mlp_in"))
        hidden = dense(hidden, self.width, "mlp_out")
        tokens += hidden if scales is None else _scaled(hidden, scales[1])
        return tokens, row


def _scaled(tokens: jax.Array, scale: jax.Array) -> jax.Array:
    """Multiplies the tokens (B, N, D) of each example by its factor (B,)."""
    return tokens * scale[:, None, None].astype(tokens.dtype)


class Transformer(nn.Module):
    """A scan over `depth` blocks, whose parameters are stacked along a leading axis.

    The scan is unrolled on GPUs, and on CPUs if the blocks are few.

    Attributes:
        width: D, the width of the tokens.
        depth: L, the number of blocks.
        heads: H, the number of heads; divides the width.
        row: Attention row of the last block to return, see `attention_row`; None returns no row.
        dtype: Dtype of the computation.
        remat: What the backward pass computes again, a key of `REMAT`.
    """

    width: int
    depth: int
    heads: int
    row: str | None = None
    dtype: Dtype = jnp.float32
    remat: str = "none"

    @nn.compact
    def __call__(
        self, tokens: jax.Array, scales: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Applies the blocks.

        Args:
            tokens: (B, N, D).
            scales: (L, 2, B) float, the factors of each block, see `Block`; 1 by default.

        Returns:
            tokens: (B, N, D).
            row: (B, H, N) float32, the last block's attention row, or None.
        """
        batch, count, _ = tokens.shape
        # Pads once: otherwise every block would have to copy its queries, keys and values.
        added = padding(count, self.dtype, self.width // self.heads)
        if added:
            tokens = jnp.pad(tokens, ((0, 0), (0, added), (0, 0)))
        tokens = sharding.row_major(tokens)
        # Only the last block's row is needed. It is part of the carry, where each block overwrites
        # it; stacking the rows of all blocks would cost `depth` times the memory.
        row = jnp.zeros((batch, self.heads, count), jnp.float32) if self.row else None
        # A loop stores what the backward pass needs in stacked arrays, which it fills with zeros
        # first and reads from later. They are a third of all bytes that a step moves, and memory
        # traffic limits its speed on GPUs. On CPUs, it is a fifth of a small model's step. Without
        # the loop, compiling a deep model takes three times as long; a shallow one, no longer.
        platform = sharding.platform()
        is_unrolled = platform == "gpu" or (platform == "cpu" and self.depth <= SHALLOW)
        scan = nn.scan(
            lambda block, carry, scales: (block(carry[0], scales), None),
            variable_axes={"params": 0, "intermediates": 0},  # the latter for `vit_layers`
            split_rngs={"params": True},
            length=self.depth,
            unroll=self.depth if is_unrolled else 1,
        )
        policy = REMAT[self.remat]
        # Without a loop, XLA would merge the second computation of a value with the first.
        block_class = Block
        if policy:
            block_class = nn.remat(Block, policy=policy, prevent_cse=is_unrolled)
        block = block_class(
            self.width, self.heads, self.row, self.dtype, count if added else None, name="blocks"
        )
        (tokens, row), _ = scan(block, (tokens, row), scales)
        return tokens[:, :count] if added else tokens, row


class Encoder(nn.Module):
    """ViT over the patches of one modality, with learned positions and a CLS token, or without.

    Attributes:
        grid: Token grid of the learned positions: (time, height, width) for video, (frequency,
            time) for audio.
        width: D, the width of the tokens.
        depth: L, the number of blocks.
        heads: H, the number of heads; divides the width.
        row: Attention row of the last block to return, see `attention_row`; None returns no row.
        dtype: Dtype of the computation.
        remat: What the backward pass computes again, a key of `REMAT`.
        cls: Whether there is a CLS token.
    """

    grid: tuple[int, ...]
    width: int
    depth: int
    heads: int
    row: str | None = None
    dtype: Dtype = jnp.float32
    remat: str = "none"
    cls: bool = True

    @nn.compact
    def __call__(
        self,
        patches: jax.Array,
        grid: tuple[int, ...] | None = None,
        keep: jax.Array | None = None,
        scales: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Encodes patches.

        Args:
            patches: (B, N, P) float; N is the product of `grid`.
            grid: Token grid of the patches, to which positions are resized; `self.grid` by default.
            keep: (B, K) int, the indices of the patches to encode, in the order of the tokens; all
                by default. Dropped patches cost nothing, not even their embedding.
            scales: (L, 2, B) float, factors of each block's attention and MLP output for each
                example: 0 drops the path. The default, 1, costs nothing.

        Returns:
            tokens: (B, 1 + N, D), or (B, 1 + K, D) with `keep`; CLS first, after the final norm.
                Without a CLS token, zeros are first.
            row: (B, H, N or K) float32, the last block's attention row without its CLS column and
                not renormalized, or None.
        """
        count = math.prod(self.grid) + self.cls
        if self.cls:
            cls_token = self.param("cls_token", normal, (1, self.width))
        positions = self.param("position_embedding", truncated_normal, (count, self.width))
        if self.cls:
            cls_position, positions = positions[:1], positions[1:]
        if grid is not None and tuple(grid) != tuple(self.grid):
            positions = resize_positions(positions, self.grid, grid)

        if keep is not None:
            patches = jnp.take_along_axis(patches, keep[..., None], axis=1)
            positions = positions[keep]
        tokens = nn.Dense(self.width, dtype=self.dtype, kernel_init=xavier, name="patch_embedding")(
            patches
        )
        tokens = sharding.by_example(tokens) + positions.astype(self.dtype)
        if self.cls:
            cls_token = (cls_token + cls_position).astype(self.dtype)
            cls_token = jnp.broadcast_to(cls_token, (tokens.shape[0], 1, self.width))
            tokens = jnp.concatenate([cls_token, tokens], axis=1)
        tokens, row = Transformer(
            self.width,
            self.depth,
            self.heads,
            self.row,
            self.dtype,
            self.remat,
            name="transformer",
        )(tokens, scales)
        tokens = LayerNorm(self.dtype, name="norm")(tokens)
        if not self.cls:
            return jnp.pad(tokens, ((0, 0), (1, 0), (0, 0))), row
        return tokens, None if row is None else row[..., 1:]


def init_params(encoder: Encoder, patch: Sequence[int], key: jax.Array) -> dict[str, Any]:
    """Initializes the float32 parameters of an encoder.

    Args:
        encoder: The encoder.
        patch: Extents of a patch.
        key: Typed random key.
    """
    patches = jnp.zeros((1, math.prod(encoder.grid), patch_values(patch)))
    return encoder.init(key, patches)["params"]


class Encoding(NamedTuple):
    """An encoder's outputs for a batch of views.

    Attributes:
        patches: (B, N, P), all patches of the views, with those that were not encoded.
        tokens: As from `Encoder`.
        attention: As `row` from `Encoder`.
    """

    patches: jax.Array
    tokens: jax.Array
    attention: jax.Array | None


def encode(
    encoder: Encoder,
    params: Mapping[str, Any],
    views: jax.Array,
    patch: Sequence[int],
    keep: jax.Array | None = None,
    scales: jax.Array | None = None,
) -> Encoding:
    """Encodes views: the forward pass of every encoder, in training and afterwards.

    Args:
        encoder: The encoder. Its positions are resized to the grid of the views.
        params: Parameters of the encoder.
        views: (B, T, H, W, 3) float normalized frames, or (B, F, T) float normalized log-mels.
        patch: Extents of a patch, which divide those of the views.
        keep: (B, K) int, the patches to encode; None encodes all.
        scales: Factors of the paths, see `Encoder`.

    Returns:
        The patches, their tokens and the attention row.
    """
    patches = patchify(views, patch)
    grid = token_grid(views.shape[1:], patch)
    tokens, row = encoder.apply({"params": params}, patches, grid, keep, scales)
    return Encoding(patches, tokens, row)


def mean_token(tokens: jax.Array, dtype: Dtype | None = None) -> jax.Array:
    """Averages patch tokens, without CLS. These means are a view's features.

    Args:
        tokens: (B, 1 + N, D) float, CLS first.
        dtype: Dtype of the sum and of the result; None for the dtype of `tokens`.

    Returns:
        (B, D).
    """
    return tokens[:, 1:].mean(axis=1, dtype=dtype)
