"""XKD put together: two students, two teachers, and what the variants share.

Parameters are plain nested dictionaries:

    params  {"video": {"encoder", "decoder", "projector"}, "audio": {the same}}
    teacher {"video": {"encoder", "projector"},            "audio": {the same}}

Where a variant shares transformer blocks between modalities, they stand once, under "shared", and
the encoders have none of their own: in `params` for XKD-MAS and XKD-MATS, in `teacher` for
XKD-MATS alone. Patch projection, CLS, positions, final norm, projector and decoder always belong
to one modality.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
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
        full: The global view, (B, T, H, W, 3) or (B, F, T) float, normalised.
        local: (B, n, T', H', W', 3) or (B, n, F, T') float, normalised.
        noise: (B, N) float, which decides what the student's global view is masked of.
    """

    full: jax.Array
    local: jax.Array
    noise: jax.Array


class TeacherOutput(NamedTuple):
    """What a teacher makes of the whole global view.

    Attributes:
        tokens: (B, 1 + N, D), CLS first, after the final norm.
        attention: (B, H, N) float32, the last block's CLS row; None without refinement.
        cross_attention: (B, H, N) float32; None without refinement.
        refined: (B, N, D) float32; the patch tokens themselves without refinement.
        projections: (B, J) float32.
    """

    tokens: jax.Array
    attention: jax.Array | None
    cross_attention: jax.Array | None
    refined: jax.Array
    projections: jax.Array


class StudentOutput(NamedTuple):
    """What a student makes of the masked global view and of the local views.

    Attributes:
        mask: Of the global view.
        latent: (B, 1 + K, D), the encoder's tokens of what it kept.
        predictions: (B, N, P) float32, of every patch, in normalised-patch space.
        targets: (B, N, P) float32, the patches, each normalised by its own statistics.
        local_tokens: (B * n, 1 + M, D), views of an example next to one another.
        projections: (1 + n, B, J) float32, the masked global view's first.
    """

    mask: Mask
    latent: jax.Array
    predictions: jax.Array
    targets: jax.Array
    local_tokens: jax.Array
    projections: jax.Array


@dataclasses.dataclass(frozen=True)
class Modality:
    """The networks of one modality and what their inputs look like."""

    encoder: Encoder
    decoder: Decoder
    projector: Projector
    patchify: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    patch: tuple[int, ...]
    mask_ratio: float

    @property
    def token_count(self) -> int:
        """N, the tokens of a global view, CLS not counted."""
        return math.prod(self.encoder.grid)

    def tokenize(self, views: jax.Array) -> tuple[jax.Array, tuple[int, ...]]:
        """Patches (B, N, P) of views (B, ...), and their grid."""
        extents = views.shape[1 : 1 + len(self.patch)]
        grid = tuple(extent // p for extent, p in zip(extents, self.patch, strict=True))
        return self.patchify(views, self.patch), grid

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters of the three networks."""
        encoder_key, decoder_key, projector_key = jax.random.split(key, 3)
        values = math.prod(self.patch) * (3 if self.patchify is patching.patchify_video else 1)
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
    """The whole model: hyper-parameters and pure functions of parameters."""

    video: Modality
    audio: Modality
    variant: str = "xkd"
    refine: bool = True
    cross_attention: str = "mean"
    query: str = "cls"
    refine_weight: str = "root"

    def init(self, key: jax.Array) -> Params:
        """Students' parameters, float32."""
        keys = jax.random.split(key, len(MODALITIES))
        params = {m: getattr(self, m).init(k) for m, k in zip(MODALITIES, keys, strict=True)}
        if self.variant != "xkd":
            params = _share(params)
        return params

    def shapes(self) -> Params:
        """The shapes of students' parameters, of which none is made."""
        return _shapes(self)

    def teacher_target(self, params: Params) -> Params:
        """The students' parameters in the structure of the teachers', which follow them."""
        target = {m: {k: params[m][k] for k in ("encoder", "projector")} for m in MODALITIES}
        if self.variant == "xkd_mas":
            return {m: {**target[m], "encoder": encoder_params(params, m)} for m in MODALITIES}
        if self.variant == "xkd_mats":
            target["shared"] = params["shared"]
        return target

    def teach(self, teacher: Params, views: dict[str, Views]) -> dict[str, TeacherOutput]:
        """Encodes whole global views, refines each by the other, and projects the mean token."""
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
        """Encodes masked global and whole local views, reconstructs, and projects mean tokens."""
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


# Tracing takes a second.
@functools.cache
def _shapes(model: XKD) -> Params:
    return jax.eval_shape(model.init, jax.random.key(0))


def _share(params: Params) -> Params:
    """Takes the transformer blocks out of both encoders and puts the video's under "shared"."""
    shared = {"transformer": params["video"]["encoder"]["transformer"]}

    def without_blocks(encoder: Params) -> Params:
        return {name: tree for name, tree in encoder.items() if name not in shared}

    own = {m: {**params[m], "encoder": without_blocks(params[m]["encoder"])} for m in MODALITIES}
    return {**own, "shared": shared}


def encoder_params(params: Params, modality: str) -> Params:
    """One modality's complete encoder parameters, of students or of teachers."""
    return {**params[modality]["encoder"], **params.get("shared", {})}


def count_parameters(params: Params) -> dict[str, int]:
    """Numbers of parameters by part, such as "video/encoder"; shared blocks as "shared"."""
    counts = {
        f"{m}/{part}": sum(x.size for x in jax.tree.leaves(tree))
        for m in MODALITIES
        for part, tree in params[m].items()
    }
    if "shared" in params:
        counts["shared/transformer"] = sum(x.size for x in jax.tree.leaves(params["shared"]))
    return counts


def build(config: ml_collections.ConfigDict, dtype: Any = jnp.float32) -> XKD:
    """The model that a config (see configs/base.py) describes, computing in `dtype`."""
    model, views, xkd = config.model, config.views, config.xkd
    computation = {"dtype": dtype, "remat": config.parallel.remat}
    inputs = {
        "video": (views.video.global_frames, views.video.global_size, views.video.global_size),
        "audio": (views.audio.mel_bands, views.audio.global_frames),
    }
    channels = {"video": 3, "audio": 1}
    patchify = {"video": patching.patchify_video, "audio": patching.patchify_audio}

    def modality(name: str) -> Modality:
        patch = tuple(model[name].patch)
        grid = tuple(n // p for n, p in zip(inputs[name], patch, strict=True))
        return Modality(
            encoder=Encoder(grid=grid, **model[name].encoder, **computation),
            decoder=Decoder(
                patch_size=math.prod(patch) * channels[name],
                **model[name].decoder,
                **computation,
            ),
            projector=Projector(dtype=dtype, **model.projector),
            patchify=patchify[name],
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
