"""All that a report asks of the networks about some clips, asked once."""

import dataclasses
from collections.abc import Callable

import numpy as np

from xkd_jax.report import masked, representations
from xkd_jax.report.clips import Clips
from xkd_jax.report.health import Measured
from xkd_jax.report.networks import OTHER, Encoded, Networks

BATCH_SIZE = 8
_STILL, _DARK = 0.5, 2.0  # of 255: mean change between frames; deviation within the clip


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the networks make of clips.

    Attributes:
        clips: The clips.
        examples: (k,) indices of those to be shown.
        encoded: By (network, modality), of all clips.
        untrained: The same of fresh weights; empty where the config is not known.
        restored: By modality and mask ratio, where there are decoders.
        baselines: By modality, the error of predicting every patch's mean.
        outputs: By (network, modality), what the distributions over outputs say; where there are
            projectors.
        log_probabilities: (n, J) likewise: a teacher's centered and sharpened.
        classes: By (network, modality), how much of that is the class; empty without labels.
        spreads: By (network, modality), of the features.
        retrievals: By what finds what; empty without projectors of both modalities.
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
        """A clip's name, short enough for people."""
        parts = self.clips.names[n].replace("\\", "/").split("/")
        return "/".join(parts[-2:])


def take(
    networks: Networks, clips: Clips, shown: int, advance: Callable[[str, int], object]
) -> Survey:
    """Asks the networks.

    Args:
        networks: To ask.
        clips: Of the modalities that they see.
        shown: How many clips are to be shown.
        advance: Called with what is being done and the number of clips just done with it.
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
            baselines[m] = masked.of_means(views[m], networks.patch(m), m)

    logs = {
        key: _log_probabilities(networks, *key, made.projections)
        for key, made in encoded.items()
        if made.projections is not None
    }
    spreads = {}
    if count > 1:
        spreads = {key: representations.spread(made.features) for key, made in encoded.items()}
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
    """The numbers that a verdict rests on."""
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
                representations.neighbor_accuracy(made[network, m].features, clips.labels)
                if (network, m) in made
                else float("nan")
                for made in (survey.encoded, survey.untrained)
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
    """Clips to show: with sound as far as there are such, and of different classes."""
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
    """Each modality asks the other, in the three spaces that training brings near one another."""
    pairs = {
        # A student follows the other modality's teacher: these two are trained to agree.
        "teacher asks, student answers": (encoded, "teacher", "student"),
        "students": (encoded, "student", "student"),
        "teachers": (encoded, "teacher", "teacher"),
        "untrained networks": (untrained, "teacher", "student"),
    }
    found = {}
    for name, (made, asking, answering) in pairs.items():
        rows = []
        for m in ("audio", "video"):
            asked, candidates = made.get((asking, m)), made.get((answering, OTHER[m]))
            if asked is None or candidates is None:
                continue
            if asked.projections is None or candidates.projections is None:
                continue
            x, y = asked.projections, candidates.projections
            rows.append(representations.retrieve(m, x, y, clips.labels))
        if rows:
            found[name] = rows
    return found
