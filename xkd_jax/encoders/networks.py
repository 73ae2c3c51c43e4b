"""All networks of a run, an export or an import, with their decoders and projectors.

The networks take whole or masked global views in batches, and return NumPy arrays. A folder may
hold some of the networks only: an export of encoders has neither decoders nor projectors.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from xkd_jax.encoders import descriptions, pretrained
from xkd_jax.encoders.descriptions import NETWORKS
from xkd_jax.method import augment, losses
from xkd_jax.method.models import xkd
from xkd_jax.method.models.vit import Encoder, mean_token
from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.run import checkpoint, saved_checkpoint


class Encoded(NamedTuple):
    """One network's outputs for n whole views of one modality.

    Attributes:
        features: (n, D) float32, the mean of the patch tokens after the final norm.
        attention: (n, H, N) float32, the last block's attention row, see `xkd.query`.
        refined_attention: (n, H, N) float32, `attention` refined by the other modality's (Eq. 4);
            None if there is no encoder of the other modality.
        projections: (n, J) float32, the projector's outputs, which a teacher computes from refined
            features; None without a projector.
    """

    features: np.ndarray
    attention: np.ndarray
    refined_attention: np.ndarray | None
    projections: np.ndarray | None


class Reconstructed(NamedTuple):
    """A masked autoencoder's outputs for n views.

    Attributes:
        predictions: (n, N, P) float32, all patches, in the space of normalized patches.
        dropped: (n, N) float32, 1 where the network did not see the patch.
        errors: (n,) float32, mean squared error of the dropped, normalized patches. Predicting
            each patch's mean gives about 1; see `masked.loss_of_means`.
    """

    predictions: np.ndarray
    dropped: np.ndarray
    errors: np.ndarray


@dataclasses.dataclass(frozen=True)
class Networks:
    """Weights, their description, and the model they belong to.

    Attributes:
        description: Description as from `xkd_jax.encoders.descriptions.describe`.
        trees: Trees of weights, as in `xkd_jax.encoders.pretrained`.
        model: The whole model, or None if the config is not known. `trees` may lack the weights
            of some of its parts.
        config: Config of the run, or None if it is not known.
    """

    description: Mapping[str, Any]
    trees: Mapping[str, Any]
    model: xkd.XKD | None
    config: ml_collections.ConfigDict | None

    def holds(self, network: str, modality: str, part: str = "encoder") -> bool:
        """Returns whether there are weights of a part: encoder, decoder or projector."""
        return part in self.description["networks"].get(network, {}).get(modality, ())

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that have an encoder."""
        return tuple(m for m in MODALITIES if self.networks_of(m))

    def networks_of(self, modality: str) -> tuple[str, ...]:
        """Returns which of teacher and student have an encoder of a modality."""
        return tuple(n for n in NETWORKS if self.holds(n, modality))

    @property
    def outputs(self) -> int | None:
        """J, the number of the projectors' outputs; None if the config is not known."""
        return None if self.model is None else self.model.video.projector.out

    def patch(self, modality: str) -> tuple[int, ...]:
        """Returns the extents of a patch: (frames, pixels, pixels) or (mel bands, frames)."""
        return tuple(self.description["architecture"][modality]["patch"])

    def grid(self, modality: str) -> tuple[int, ...]:
        """Returns the numbers of tokens along (time, height, width) or (frequency, time)."""
        return descriptions.native_grid(self.description, modality)

    def view(self, modality: str) -> Mapping[str, Any]:
        """Returns the preprocessing of one modality."""
        return self.description["preprocessing"][modality]

    def untrained(self, seed: int = 0) -> "Networks":
        """Returns the same networks with initial weights; the config has to be known."""
        trees = _fresh(self.model, seed)
        return dataclasses.replace(self, trees=jax.device_get(trees))

    def encode(
        self,
        views: Mapping[str, np.ndarray],
        batch_size: int,
        advance: Callable[[int], object] = lambda count: None,
    ) -> dict[tuple[str, str], Encoded]:
        """Encodes whole views with every network.

        Args:
            views: Views by modality: (n, T, H, W, 3) uint8 frames or (n, F, W) float32 log-mels.
                Views with the same index are of the same clip.
            batch_size: Number of views in a batch.
            advance: Called with the number of views after each batch of teachers or students.

        Returns:
            Outputs by (network, modality).
        """
        outputs = {}
        for network in NETWORKS:
            held = tuple(m for m in views if self.holds(network, m))
            if not held:
                continue
            weights = jax.device_put({m: self.weights(network, m) for m in held})
            settings = self.observer(), network == "teacher"
            parts = []
            with _precise():
                for batch, count in _batches({m: views[m] for m in held}, batch_size):
                    out = jax.device_get(_encode(weights, batch, *settings))
                    parts.append(jax.tree.map(lambda x, n=count: x[:n], out))
                    advance(count)
            whole = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
            outputs |= {(network, m): Encoded(**whole[m]) for m in held}
        return outputs

    def reconstruct(
        self, modality: str, views: np.ndarray, ratio: float, batch_size: int, seed: int = 0
    ) -> Reconstructed:
        """Masks views at random and reconstructs them with the student.

        Args:
            modality: Modality that has a decoder.
            views: Views of this modality, as for `encode`.
            ratio: Share of the patches to drop.
            batch_size: Number of views in a batch.
            seed: Seed of the masks. With the same seed, the patches dropped at one ratio are also
                dropped at every higher ratio.

        Returns:
            The reconstructions and their errors.
        """
        weights = jax.device_put(self.weights("student", modality))
        settings = modality, getattr(self.model, modality), ratio
        tokens = int(np.prod(self.grid(modality)))
        noise = np.random.default_rng(seed).random((len(views), tokens), np.float32)
        parts = []
        with _precise():
            for batch, count in _batches({"views": views, "noise": noise}, batch_size):
                out = _reconstruct(weights, batch["views"], batch["noise"], *settings)
                parts.append([x[:count] for x in jax.device_get(out)])
        return Reconstructed(*(np.concatenate(rows) for rows in zip(*parts, strict=True)))

    def teacher_log_probabilities(self, modality: str, projections: np.ndarray) -> np.ndarray:
        """Computes a teacher's centered and sharpened log-probabilities (Eq. 10).

        Args:
            modality: Modality of the teacher.
            projections: (n, J) float32, the teacher's outputs.

        Returns:
            (n, J) float32, at the teacher's final temperature.
        """
        temperature = self.config.xkd.teacher_temperature[f"{modality}_end"]
        centers = self.trees.get("centers", {}).get(modality, np.float32(0))
        return np.asarray(losses.teacher_log_probabilities(projections, centers, temperature))

    def observer(self) -> xkd.XKD:
        """Returns the model; if the config is not known, encoders that attend like the paper's."""
        if self.model is not None:
            return self.model
        architecture = self.description["architecture"]
        cls = all(
            "cls_token" in self.weights(self.networks_of(m)[0], m)["encoder"]
            for m in self.modalities
        )
        parts = {
            m: xkd.Modality(
                Encoder(self.grid(m), cls=cls, **architecture[m]["encoder"]), self.patch(m)
            )
            for m in self.modalities
        }
        query = "cls" if cls else "mean"
        return xkd.XKD(parts.get("video"), parts.get("audio"), query=query)

    def weights(self, network: str, modality: str) -> dict[str, Any]:
        """Returns the weights of one modality's parts that there are modules for."""
        weights = xkd.modality_params(self.trees[NETWORKS[network]], modality)
        return weights if self.model is not None else {"encoder": weights["encoder"]}


# Compiled functions. They do not take `Networks`, so networks of the same sizes share a program.


def _fresh(model: xkd.XKD, seed: int = 0) -> dict[str, Any]:
    """Returns all weights as they are before the first step."""
    params = _initialize(model, jax.random.key(seed))
    centers = {m: jnp.zeros(model.video.projector.out) for m in MODALITIES}
    return {"params": params, "teacher": model.teacher_target(params), "centers": centers}


@functools.partial(jax.jit, static_argnums=0)
def _initialize(model: xkd.XKD, key: jax.Array) -> xkd.Params:
    return model.init(key)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _encode(
    weights: Mapping[str, Any], views: Mapping[str, jax.Array], model: xkd.XKD, is_teacher: bool
) -> dict[str, dict[str, Any]]:
    """Returns the fields of `Encoded` of a batch, by modality."""
    seen = {m: _seen(m, x) for m, x in views.items()}
    outputs = model.observe(weights, seen, refine=is_teacher and model.refine)
    return {
        m: {
            "features": mean_token(out.tokens, jnp.float32),
            "attention": out.attention,
            "refined_attention": out.cross_attention,
            "projections": out.projections,
        }
        for m, out in outputs.items()
    }


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _reconstruct(
    weights: Mapping[str, Any],
    views: jax.Array,
    noise: jax.Array,
    modality: str,
    part: xkd.Modality,
    ratio: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the fields of `Reconstructed` of a batch."""
    mask, _, predictions, targets = part.restore(weights, _seen(modality, views), noise, ratio)
    error_of_one = functools.partial(losses.reconstruction_loss, weights=jnp.ones(1))
    errors = jax.vmap(error_of_one)(predictions[:, None], targets[:, None], mask.dropped[:, None])
    return predictions, mask.dropped, errors


def _seen(modality: str, views: jax.Array) -> jax.Array:
    """Returns views as the encoder sees them: frames are normalized, log-mels already are."""
    return augment.normalize(views) if modality == "video" else views


def load(path: str | os.PathLike) -> Networks:
    """Loads all weights that a folder holds, and builds their networks.

    Args:
        path: The workdir of a run, one of its checkpoints, or a folder that
            `xkd_jax.interop.export` or `xkd_jax.interop.import_release` wrote.

    Returns:
        The networks.

    Raises:
        FileNotFoundError: `path` is not a folder.
        DamagedError: The folder holds no weights that can be read, or its config fits no model.
        MismatchError: The weights do not fit the model of the folder's config.
    """
    description, trees = pretrained.load(path, descriptions.everything)
    if not description["config"]:
        return Networks(description, trees, None, None)
    config = ml_collections.ConfigDict(description["config"])
    try:
        model = xkd.build(config)
        expected = jax.eval_shape(functools.partial(_fresh, model))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise saved_checkpoint.DamagedError(
            f"{path} cannot be used: no model can be built from its config "
            f"({type(error).__name__}: {error})"
        ) from error
    checkpoint.check_fits(trees, expected, path, "Its config.json describes another model.")
    return Networks(description, trees, model, config)


def _batches(
    arrays: Mapping[str, np.ndarray], size: int
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Cuts arrays of one length into batches.

    Args:
        arrays: (n, ...) arrays by name.
        size: Number of rows in a batch.

    Yields:
        A batch of arrays by name, and its number of rows. The last batch is padded with zeros.
    """
    total = len(next(iter(arrays.values())))
    size = min(size, total)
    for start in range(0, total, size):
        count = min(size, total - start)
        piece = {name: x[start : start + count] for name, x in arrays.items()}
        if count < size:
            piece = {
                name: np.concatenate([x, np.zeros((size - count, *x.shape[1:]), x.dtype)])
                for name, x in piece.items()
            }
        yield piece, count


def _precise() -> contextlib.AbstractContextManager:
    """Returns a context in which products are in full float32 on every device.

    `load_encoder` computes in the same precision.
    """
    return jax.default_matmul_precision("highest")
