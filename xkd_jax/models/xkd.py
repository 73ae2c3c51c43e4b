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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from xkd_jax import losses
from xkd_jax.models import patches as patching
from xkd_jax.models.masked_autoencoder import Decoder, Mask, random_mask
from xkd_jax.models.projector import Projector
from xkd_jax.models.vit import Encoder

MODALITIES = ("video", "audio")
VARIANTS = ("xkd", "xkd_mas", "xkd_mats")

Params = dict[str, Any]


class Views(NamedTuple):
    """One modality's views of a batch, as the networks see them.

    Attributes:
        full: Normalized global views, (B, T, H, W, 3) or (B, F, T) float.
        local: Normalized local views, (B, n, T', H', W', 3) or (B, n, F, T') float.
        noise: (B, N) float, which decides the patches that the student's global view loses.
    """

    full: jax.Array
    local: jax.Array
    noise: jax.Array


class TeacherOutput(NamedTuple):
    """Outputs of a teacher for the whole global view.

    Attributes:
        tokens: (B, 1 + N, D), tokens after the final norm, CLS first.
        attention: (B, H, N) float32, the last block's attention row; None without refinement.
        cross_attention: (B, H, N) float32, see `losses.cross_modal_attention`; None without
            refinement.
        refined: (B, N, D) float32, patch tokens weighted by the cross-attention; the patch tokens
            themselves without refinement.
        projections: (B, J) float32, the projections of the mean refined token.
    """

    tokens: jax.Array
    attention: jax.Array | None
    cross_attention: jax.Array | None
    refined: jax.Array
    projections: jax.Array


class StudentOutput(NamedTuple):
    """Outputs of a student for the masked global view and the local views.

    Attributes:
        mask: Mask of the global view.
        latent: (B, 1 + K, D), the encoder's tokens of the kept patches, CLS first.
        predictions: (B, N, P) float32, the decoder's predictions of all normalized patches.
        targets: (B, N, P) float32, the patches, each normalized by its own mean and variance.
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
        decoder: Decoder of the student.
        projector: The projector, of students and teachers alike.
        patch: Size of a patch: frames and pixels, or mel bands and time steps.
        mask_ratio: Share of the global view's patches that the student does not see.
    """

    encoder: Encoder
    decoder: Decoder
    projector: Projector
    patch: tuple[int, ...]
    mask_ratio: float

    @property
    def token_count(self) -> int:
        """N, the number of patch tokens of a global view."""
        return math.prod(self.encoder.grid)

    def tokenize(self, views: jax.Array) -> tuple[jax.Array, tuple[int, ...]]:
        """Cuts views (B, ...) into patches (B, N, P); returns the patches and their token grid."""
        return patching.patchify(views, self.patch), patching.token_grid(
            views.shape[1:], self.patch
        )

    def init(self, key: jax.Array) -> Params:
        """Initializes the float32 parameters of the three networks."""
        encoder_key, decoder_key, projector_key = jax.random.split(key, 3)
        values = patching.patch_values(self.patch)
        tokens = jnp.zeros((1, 1 + self.token_count, self.encoder.width))
        return {
            "encoder": self.encoder.init(encoder_key, jnp.zeros((1, self.token_count, values)))[
                "params"
            ],
            "decoder": self.decoder.init(
                decoder_key, tokens, jnp.zeros((1, self.token_count), jnp.int32)
            )["params"],
            "projector": self.projector.init(projector_key, tokens[:, 0])["params"],
        }


@dataclasses.dataclass(frozen=True)
class XKD:
    """The whole model: hyperparameters and pure functions of parameters.

    Attributes:
        video: Networks of the video.
        audio: Networks of the audio.
        variant: One of `VARIANTS`, which says what the networks share.
        refine: Whether teachers weight their patch tokens by cross-modal attention.
        cross_attention: Kind of the cross-modal attention, see `losses.cross_modal_attention`.
        query: Attention row that teachers take, `cls` or `mean`; see `models.vit.attention_row`.
        refine_weight: How the attention weights tokens, see `losses.refine`.
    """

    video: Modality
    audio: Modality
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

    def teach(self, teacher: Params, views: dict[str, Views]) -> dict[str, TeacherOutput]:
        """Encodes whole global views, refines each by the other modality, projects mean tokens."""
        tokens, rows = {}, {}
        for m in MODALITIES:
            modality = getattr(self, m)
            encoder = modality.encoder.clone(row=self.query if self.refine else None)
            patches, grid = modality.tokenize(views[m].full)
            variables = {"params": encoder_params(teacher, m)}
            tokens[m], rows[m] = encoder.apply(variables, patches, grid)

        outputs = {}
        for m, other in zip(MODALITIES, MODALITIES[::-1], strict=True):
            cross, refined = None, tokens[m][:, 1:]
            if self.refine:
                cross = losses.cross_modal_attention(rows[m], rows[other], self.cross_attention)
                refined = losses.refine(refined, cross, self.refine_weight)
            projections = getattr(self, m).projector.apply(
                {"params": teacher[m]["projector"]}, refined.mean(axis=1)
            )
            outputs[m] = TeacherOutput(tokens[m], rows[m], cross, refined, projections)
        return outputs

    def study(self, params: Params, views: dict[str, Views]) -> dict[str, StudentOutput]:
        """Encodes masked global and whole local views, restores patches, projects mean tokens."""
        return {m: self._study(params, m, views[m]) for m in MODALITIES}

    def _study(self, params: Params, name: str, views: Views) -> StudentOutput:
        modality = getattr(self, name)
        encoder = {"params": encoder_params(params, name)}

        patches, grid = modality.tokenize(views.full)
        mask = random_mask(views.noise, modality.mask_ratio)
        latent, _ = modality.encoder.apply(encoder, patches, grid, mask.keep)
        predictions = modality.decoder.apply(
            {"params": params[name]["decoder"]}, latent, mask.restore
        )
        targets, _, _ = patching.normalize_patches(patches.astype(jnp.float32))

        batch, count = views.local.shape[:2]
        local = views.local.reshape(batch * count, *views.local.shape[2:])
        features = latent[:, 1:].mean(axis=1)[None]
        if count:
            local_patches, local_grid = modality.tokenize(local)
            local_tokens, _ = modality.encoder.apply(encoder, local_patches, local_grid)
            local_features = local_tokens[:, 1:].mean(axis=1).reshape(batch, count, -1)
            features = jnp.concatenate([features, local_features.swapaxes(0, 1)])
        else:
            local_tokens = jnp.zeros((0, 1, latent.shape[-1]), latent.dtype)
        projections = modality.projector.apply({"params": params[name]["projector"]}, features)
        return StudentOutput(mask, latent, predictions, targets, local_tokens, projections)


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
    computation = {"dtype": dtype, "remat": config.parallel.remat}

    def modality(name: str) -> Modality:
        patch = tuple(model[name].patch)
        grid = patching.token_grid(view_extents(config.views, name), patch)
        return Modality(
            encoder=Encoder(grid=grid, **model[name].encoder, **computation),
            decoder=Decoder(
                patch_size=patching.patch_values(patch),
                **model[name].decoder,
                **computation,
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
