"""The XKD model: two students, two teachers, and the blocks that variants share.

Parameters are plain nested dictionaries:

    params  {"video": {"encoder", "decoder", "projector"}, "audio": {the same}}
    teacher {"video": {"encoder", "projector"},            "audio": {the same}}

If a variant shares transformer blocks between the modalities, they are stored once, under "shared",
and the encoders have no blocks of their own. XKD-MAS shares them in `params`; XKD-MATS shares them
in `params` and in `teacher`. Patch embedding, CLS token, positions, final norm, projector and
decoder always belong to one modality.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from xkd_jax.method import losses
from xkd_jax.method.models import patches as patching
from xkd_jax.method.models.masked_autoencoder import Decoder, Mask, random_mask
from xkd_jax.method.models.projector import Projector
from xkd_jax.method.models.vit import Encoder, Encoding, encode, init_params, mean_token

MODALITIES = ("video", "audio")
OTHER = {"video": "audio", "audio": "video"}
VARIANTS = ("xkd", "xkd_mas", "xkd_mats")

Params = dict[str, Any]


class Views(NamedTuple):
    """One modality's views of a batch, as the networks see them.

    Attributes:
        full: Normalized global views, (B, T, H, W, 3) or (B, F, T) float.
        local: Normalized local views, (B, n, T', H', W', 3) or (B, n, F, T') float.
        noise: (B, N) float, which decides the patches that the student's global view loses.
        present: (B,) float32, 1 if the example has this modality, otherwise 0.
    """

    full: jax.Array
    local: jax.Array
    noise: jax.Array
    present: jax.Array


class WholeOutput(NamedTuple):
    """Outputs of a teacher, or of another network, for whole views of one modality.

    Attributes:
        tokens: (B, 1 + N, D), tokens after the final norm, CLS first; zeros if there is no CLS.
        attention: (B, H, N) float32, the last block's attention row; None if not asked for.
        cross_attention: (B, H, N) float32, see `losses.cross_modal_attention`; None without
            `attention`, or without views of the other modality.
        refined: (B, N, D) float32, patch tokens weighted by the cross-attention; the patch tokens
            themselves without refinement.
        projections: (B, J) float32, the projections of the mean refined token; None without weights
            of a projector.
    """

    tokens: jax.Array
    attention: jax.Array | None
    cross_attention: jax.Array | None
    refined: jax.Array
    projections: jax.Array | None


class Restored(NamedTuple):
    """Outputs of a student for the masked global view.

    Attributes:
        mask: Mask of the view.
        latent: (B, 1 + K, D), the encoder's tokens of the kept patches, CLS first.
        predictions: (B, N, P) float32, the decoder's predictions of all normalized patches.
        targets: (B, N, P) float32, the patches, each normalized by its own mean and variance.
    """

    mask: Mask
    latent: jax.Array
    predictions: jax.Array
    targets: jax.Array


class StudentOutput(NamedTuple):
    """Outputs of a student for the masked global view and the local views.

    Attributes:
        mask: As in `Restored`.
        latent: As in `Restored`.
        predictions: As in `Restored`.
        targets: As in `Restored`.
        local_tokens: (B * n, 1 + M, D), tokens of the local views; the n views of one example are
            neighbors.
        projections: (1 + n, B, J) float32, projections of the mean tokens: the masked global view
            first, then the local views.
    """

    mask: Mask
    latent: jax.Array
    predictions: jax.Array
    targets: jax.Array
    local_tokens: jax.Array
    projections: jax.Array


@dataclasses.dataclass(frozen=True)
class Modality:
    """The networks of one modality and the layout of their inputs.

    Attributes:
        encoder: The encoder, of students and teachers alike.
        patch: Size of a patch: frames and pixels, or mel bands and time steps.
        decoder: Decoder of the student. None if the encoder is all that is known.
        projector: The projector, of students and teachers alike; or None.
        mask_ratio: Share of the global view's patches that the student does not see.
    """

    encoder: Encoder
    patch: tuple[int, ...]
    decoder: Decoder | None = None
    projector: Projector | None = None
    mask_ratio: float = 0.0

    @property
    def token_count(self) -> int:
        """N, the number of patch tokens of a global view."""
        return math.prod(self.encoder.grid)

    def encode(
        self,
        params: Params,
        views: jax.Array,
        keep: jax.Array | None = None,
        row: str | None = None,
    ) -> Encoding:
        """Encodes views.

        Args:
            params: The modality's parameters, see `modality_params`.
            views: (B, ...) float, as in `Views`.
            keep: (B, K) int, the patches to encode; None encodes all.
            row: Attention row to return, see `vit.attention_row`; None returns no row.

        Returns:
            The patches, their tokens and the attention row.
        """
        return encode(self.encoder.clone(row=row), params["encoder"], views, self.patch, keep)

    def restore(
        self, params: Params, views: jax.Array, noise: jax.Array, ratio: float | None = None
    ) -> Restored:
        """Masks views, encodes what remains, and predicts all patches.

        Args:
            params: The modality's parameters, see `modality_params`.
            views: (B, ...) float, as in `Views`.
            noise: (B, N) float, which decides the dropped patches, see `random_mask`.
            ratio: Share of the patches to drop; `mask_ratio` by default.
        """
        mask = random_mask(noise, self.mask_ratio if ratio is None else ratio)
        patches, latent, _ = self.encode(params, views, mask.keep)
        predictions = self.decode(params, latent, mask)
        targets, _, _ = patching.normalize_patches(patches.astype(jnp.float32))
        return Restored(mask, latent, predictions, targets)

    def decode(self, params: Params, latent: jax.Array, mask: Mask) -> jax.Array:
        """Predicts all patches, (B, N, P) float32, from the tokens of the kept ones."""
        return self.decoder.apply({"params": params["decoder"]}, latent, mask.restore)

    def project(self, params: Params, features: jax.Array) -> jax.Array:
        """Maps mean tokens (..., D) to projections (..., J) float32."""
        return self.projector.apply({"params": params["projector"]}, features)

    def init(self, key: jax.Array) -> Params:
        """Initializes the float32 parameters of the three networks."""
        encoder_key, decoder_key, projector_key = jax.random.split(key, 3)
        tokens = jnp.zeros((1, 1 + self.token_count, self.encoder.width))
        return {
            "encoder": init_params(self.encoder, self.patch, encoder_key),
            "decoder": self.decoder.init(
                decoder_key, tokens, jnp.zeros((1, self.token_count), jnp.int32)
            )["params"],
            "projector": self.projector.init(projector_key, tokens[:, 0])["params"],
        }


@dataclasses.dataclass(frozen=True)
class XKD:
    """The whole model: hyperparameters and pure functions of parameters.

    Attributes:
        video: Networks of the video; None if only those of the audio are known.
        audio: Networks of the audio, or None.
        variant: One of `VARIANTS`, which says what the networks share.
        refine: Whether teachers weight their patch tokens by cross-modal attention.
        cross_attention: Kind of the cross-modal attention, see `losses.cross_modal_attention`.
        query: Attention row that teachers take, see `vit.attention_row`.
        refine_weight: How the attention weights tokens, see `losses.refine`.
    """

    video: Modality | None
    audio: Modality | None
    variant: str = "xkd"
    refine: bool = True
    cross_attention: str = "mean"
    query: str = "cls"
    refine_weight: str = "root"

    def init(self, key: jax.Array) -> Params:
        """Initializes the students' float32 parameters."""
        keys = jax.random.split(key, len(MODALITIES))
        params = {m: getattr(self, m).init(k) for m, k in zip(MODALITIES, keys, strict=True)}
        if self.variant != "xkd":
            params = _share(params)
        return params

    def shapes(self) -> Params:
        """Returns the shapes and dtypes of the students' parameters, without creating any."""
        return _shapes(self)

    def teacher_target(self, params: Params) -> Params:
        """Returns the students' parameters in the structure of the teachers' parameters."""
        target = {m: {k: params[m][k] for k in ("encoder", "projector")} for m in MODALITIES}
        if self.variant == "xkd_mas":
            return {m: {**target[m], "encoder": encoder_params(params, m)} for m in MODALITIES}
        if self.variant == "xkd_mats":
            target["shared"] = params["shared"]
        return target

    def observe(
        self,
        params: Params,
        views: Mapping[str, jax.Array],
        attend: bool = True,
        refine: bool = True,
    ) -> dict[str, WholeOutput]:
        """Encodes whole views, refines each by the other modality, projects mean tokens.

        Args:
            params: Parameters of teachers or students; projectors may be missing.
            views: Whole views by modality, as in `Views.full`; of one modality or both.
            attend: Whether to return the attention rows, which refinement needs.
            refine: Whether to weight the patch tokens by the cross-modal attention, if there is
                one.

        Returns:
            Outputs by modality.
        """
        networks = {m: modality_params(params, m) for m in views}
        row = self.query if attend else None
        encoded = {m: getattr(self, m).encode(networks[m], views[m], row=row) for m in views}
        outputs = {}
        for m, (_, tokens, attention) in encoded.items():
            cross, refined, projections = None, tokens[:, 1:], None
            if attend and OTHER[m] in encoded:
                other = encoded[OTHER[m]].attention
                cross = losses.cross_modal_attention(attention, other, self.cross_attention)
                if refine:
                    refined = losses.refine(refined, cross, self.refine_weight)
            if "projector" in networks[m]:
                projections = getattr(self, m).project(networks[m], refined.mean(axis=1))
            outputs[m] = WholeOutput(tokens, attention, cross, refined, projections)
        return outputs

    def teach(self, teacher: Params, views: Mapping[str, Views]) -> dict[str, WholeOutput]:
        """Returns the teachers' outputs for the whole global views, see `observe`.

        They are the teacher's terms of the alignment and the targets of the distillation. Without
        refinement, both are of unrefined tokens: section 4.4 of the paper says so of the alignment
        alone, but no gradient flows into its teacher's terms.
        """
        whole = {m: views[m].full for m in MODALITIES}
        return self.observe(teacher, whole, attend=self.refine, refine=self.refine)

    def study(self, params: Params, views: Mapping[str, Views]) -> dict[str, StudentOutput]:
        """Encodes masked global and whole local views, restores patches, projects mean tokens."""
        return {
            m: _study(getattr(self, m), modality_params(params, m), views[m]) for m in MODALITIES
        }


def _study(modality: Modality, params: Params, views: Views) -> StudentOutput:
    restored = modality.restore(params, views.full, views.noise)
    latent = restored.latent
    features = mean_token(latent)[None]
    local_tokens = jnp.zeros((0, 1, latent.shape[-1]), latent.dtype)
    batch, count = views.local.shape[:2]
    if count:
        local = views.local.reshape(batch * count, *views.local.shape[2:])
        local_tokens = modality.encode(params, local).tokens
        local_features = mean_token(local_tokens).reshape(batch, count, -1)
        features = jnp.concatenate([features, local_features.swapaxes(0, 1)])
    projections = modality.project(params, features)
    return StudentOutput(*restored, local_tokens, projections)


@functools.cache  # Tracing takes a second.
def _shapes(model: XKD) -> Params:
    return jax.eval_shape(model.init, jax.random.key(0))


def _share(params: Params) -> Params:
    """Removes the transformer blocks from both encoders and stores the video's as "shared"."""
    shared = {"transformer": params["video"]["encoder"]["transformer"]}

    def without_blocks(encoder: Params) -> Params:
        return {name: tree for name, tree in encoder.items() if name not in shared}

    own = {m: {**params[m], "encoder": without_blocks(params[m]["encoder"])} for m in MODALITIES}
    return {**own, "shared": shared}


def encoder_params(params: Params, modality: str) -> Params:
    """Returns one modality's complete encoder parameters, from a tree of students or teachers."""
    return {**params[modality]["encoder"], **params.get("shared", {})}


def modality_params(params: Params, modality: str) -> Params:
    """Returns the parameters of one modality's networks, from a tree of students or teachers."""
    return {**params[modality], "encoder": encoder_params(params, modality)}


def count_parameters(params: Params) -> dict[str, int]:
    """Counts the parameters of each part: "video/encoder" and so on, and "shared/transformer"."""
    counts = {
        f"{m}/{part}": sum(x.size for x in jax.tree.leaves(tree))
        for m in MODALITIES
        for part, tree in params[m].items()
    }
    if "shared" in params:
        counts["shared/transformer"] = sum(x.size for x in jax.tree.leaves(params["shared"]))
    return counts


def view_extents(
    views: ml_collections.ConfigDict, modality: str, view: str = "global"
) -> tuple[int, ...]:
    """Returns the extents of a view: (frames, height, width), or (mel bands, frames).

    Args:
        views: `config.views`.
        modality: "video" or "audio".
        view: "global" or "local".
    """
    fields = views[modality]
    if modality == "video":
        return fields[f"{view}_frames"], fields[f"{view}_size"], fields[f"{view}_size"]
    return fields.mel_bands, fields[f"{view}_frames"]


def build(config: ml_collections.ConfigDict, dtype: Any = jnp.float32) -> XKD:
    """Builds the model that a pretraining's config describes, which computes in `dtype`."""
    model, xkd = config.model, config.xkd
    # Without a CLS token there is no row of its own (B.8), so another row means no token.
    common = {"dtype": dtype, "remat": config.parallel.remat, "cls": xkd.query == "cls"}

    def modality(name: str) -> Modality:
        patch = tuple(model[name].patch)
        grid = patching.token_grid(view_extents(config.views, name), patch)
        return Modality(
            encoder=Encoder(grid=grid, **model[name].encoder, **common),
            decoder=Decoder(
                patch_size=patching.patch_values(patch),
                **model[name].decoder,
                **common,
            ),
            projector=Projector(dtype=dtype, **model.projector),
            patch=patch,
            mask_ratio=model[name].mask_ratio,
        )

    return XKD(
        video=modality("video"),
        audio=modality("audio"),
        variant=model.variant,
        refine=xkd.refine,
        cross_attention=xkd.cross_attention,
        query=xkd.query,
        refine_weight=xkd.refine_weight,
    )
