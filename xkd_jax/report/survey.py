"""Everything that a report computes with the networks on its clips, computed once."""

import dataclasses
from collections.abc import Callable

import numpy as np

from xkd_jax.encoders.networks import Encoded, Networks
from xkd_jax.method.models.xkd import OTHER
from xkd_jax.report import masked, representations
from xkd_jax.report.clips import Clips
from xkd_jax.report.health.outputs import Measured

BATCH_SIZE = 8
# Limits out of 255: on a still view's mean change between frames, on a dark view's deviation.
_STILL, _DARK = 0.5, 2.0


@dataclasses.dataclass(frozen=True)
class Survey:
    """The networks' outputs for n clips, and measures of them.

    Attributes:
        clips: The clips.
        examples: (k,) int, indices of the clips to show.
        encoded: Outputs for all clips, by (network, modality).
        untrained: The same with initial weights; empty if the config is not known.
        restored: Reconstructions by modality and mask ratio, for modalities with a decoder.
        baselines: Error of predicting each patch's mean, by modality.
        outputs: Information in the distributions over outputs, by (network, modality), for
            networks with a projector.
        log_probabilities: (n, J) float, those distributions, by (network, modality). A teacher's
            are centered and sharpened.
        classes: Class information in the outputs, by (network, modality); empty without labels.
        spreads: Spread of the features, by (network, modality).
        retrievals: Retrieval in both directions, by name of the pair of networks; empty unless
            both modalities have projectors.
    """

    clips: Clips
    examples: np.ndarray
    encoded: dict[tuple[str, str], Encoded]
    untrained: dict[tuple[str, str], Encoded]
    restored: dict[str, dict[float, masked.Restored]]
    baselines: dict[str, float]
    outputs: dict[tuple[str, str], representations.Outputs]
    log_probabilities: dict[tuple[str, str], np.ndarray]
    classes: dict[tuple[str, str], representations.OfClass]
    spreads: dict[tuple[str, str], representations.Spread]
    retrievals: dict[str, list[representations.Retrieval]]

    def title(self, n: int) -> str:
        """Returns a clip's short name: the last two parts of its recording's path."""
        parts = self.clips.names[n].replace("\\", "/").split("/")
        return "/".join(parts[-2:])


def take(
    networks: Networks, clips: Clips, shown: int, advance: Callable[[str, int], object]
) -> Survey:
    """Runs the networks on clips and measures their outputs.

    Args:
        networks: Networks to run.
        clips: Clips with views of the networks' modalities.
        shown: Number of clips to show.
        advance: Called with the name of the current task and the number of clips just finished.

    Returns:
        Outputs and measures.
    """
    views, count = clips.views, len(clips)
    examples = _examples(clips, shown)
    encoded = networks.encode(views, BATCH_SIZE, lambda n: advance("encoding", n))
    untrained: dict[tuple[str, str], Encoded] = {}
    if networks.model is not None:
        fresh = networks.untrained()
        untrained = fresh.encode(views, BATCH_SIZE, lambda n: advance("untrained networks", n))
    restored, baselines = {}, {}
    for m in views:
        if networks.model is not None and networks.holds("student", m, "decoder"):
            restored[m] = masked.restore(
                networks, m, views[m], examples, BATCH_SIZE, lambda n: advance("masking", n * count)
            )
            baselines[m] = masked.loss_of_means(views[m], networks.patch(m), m)

    # Where clips have one modality of two, no student of theirs has followed a teacher.
    is_paired = len(views) == len(networks.modalities)
    logs = {
        key: _log_probabilities(networks, *key, out.projections)
        for key, out in encoded.items()
        if out.projections is not None and is_paired
    }
    spreads = {}
    if count > 1:
        spreads = {key: representations.spread(out.features) for key, out in encoded.items()}
    classes = {}
    if clips.labels is not None and len(np.unique(clips.labels)) > 1:
        classes = {
            key: representations.of_class(
                x, encoded[key].projections, encoded[key].features, clips.labels
            )
            for key, x in logs.items()
        }
    return Survey(
        clips,
        examples,
        encoded,
        untrained,
        restored,
        baselines,
        {key: representations.outputs(x) for key, x in logs.items()},
        logs,
        classes,
        spreads,
        _retrievals(encoded, untrained, clips) if count > 1 else {},
    )


def measured(survey: Survey, networks: Networks) -> Measured:
    """Computes the numbers that a verdict rests on."""
    clips = survey.clips
    errors = {}
    for m, restored in survey.restored.items():
        trained_at = networks.config.model[m].mask_ratio
        errors[m] = restored[min(restored, key=lambda ratio: abs(ratio - trained_at))].error
    accuracies = {}
    if clips.labels is not None and len(clips) > 1:
        for m in clips.views:
            network = "teacher" if ("teacher", m) in survey.encoded else "student"
            trained, untrained = (
                representations.neighbor_accuracy(outputs[network, m].features, clips.labels)
                if (network, m) in outputs
                else float("nan")
                for outputs in (survey.encoded, survey.untrained)
            )
            accuracies[m] = (trained, untrained, representations.chance(clips.labels))
    video = clips.views.get("video")
    still = dark = 0.0
    if video is not None:
        moves = np.array([np.abs(np.diff(x.astype(np.int16), axis=0)).mean() for x in video])
        still = float((moves < _STILL).mean()) if video.shape[1] > 1 else 0.0
        dark = float((np.array([x.std() for x in video]) < _DARK).mean())
    return Measured(
        clips=len(clips),
        information={key: out.information for key, out in survey.outputs.items()},
        similarity={key: spread.similarity for key, spread in survey.spreads.items()},
        errors=errors,
        baselines=survey.baselines,
        accuracies=accuracies,
        classes=survey.classes,
        silent=float((~clips.has_sound).mean()) if "audio" in clips.views else 0.0,
        still=still,
        dark=dark,
    )


def _examples(clips: Clips, shown: int) -> np.ndarray:
    """Chooses clips to show, preferably with sound and of different classes."""
    order = np.argsort(~clips.has_sound, kind="stable")
    if clips.labels is not None:
        seen: dict[int, int] = {}
        turns = []
        for n in order:
            label = int(clips.labels[n])
            turns.append((not clips.has_sound[n], seen.get(label, 0), n))
            seen[label] = seen.get(label, 0) + 1
        order = np.array([n for *_, n in sorted(turns)])
    else:
        sounding = order[clips.has_sound[order]]
        pool = sounding if len(sounding) >= shown else order
        order = pool[np.unique(np.linspace(0, len(pool) - 1, shown).astype(int))]
    return order[:shown]


def _log_probabilities(
    networks: Networks, network: str, modality: str, projections: np.ndarray
) -> np.ndarray:
    if network == "teacher":
        return networks.teacher_log_probabilities(modality, projections)
    return representations.student_log_probabilities(
        projections, networks.config.xkd.student_temperature
    )


def _retrievals(
    encoded: dict[tuple[str, str], Encoded],
    untrained: dict[tuple[str, str], Encoded],
    clips: Clips,
) -> dict[str, list[representations.Retrieval]]:
    """Measures retrieval in both directions for each pair of networks, and without training."""
    pairs = {
        # Training makes a student agree with the other modality's teacher.
        "teacher asks, student answers": (encoded, "teacher", "student"),
        "students": (encoded, "student", "student"),
        "teachers": (encoded, "teacher", "teacher"),
        "untrained networks": (untrained, "teacher", "student"),
    }
    retrievals = {}
    for name, (outputs, asking, answering) in pairs.items():
        rows = []
        for m in ("audio", "video"):
            asked, candidates = outputs.get((asking, m)), outputs.get((answering, OTHER[m]))
            if asked is None or candidates is None:
                continue
            if asked.projections is None or candidates.projections is None:
                continue
            x, y = asked.projections, candidates.projections
            rows.append(representations.retrieve(m, x, y, clips.labels))
        if rows:
            retrievals[name] = rows
    return retrievals
