"""The section on the spread of features and outputs: numbers, histograms and maps."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from xkd_jax.encoders.networks import Networks
from xkd_jax.report import history, representations
from xkd_jax.report.charts import Lines, Scatter
from xkd_jax.report.page import Section, grid, table
from xkd_jax.report.survey import Survey

# Cells of the table, by the fields of `representations.Outputs` and of `representations.OfClass`.
_OUTPUT_CELLS = ("{entropy:.2f}", "{marginal:.2f}", "{information:.2f}", "{used}")
_CLASS_CELLS = ("{information:.2f} of {entropy:.2f}", "{outputs:.0%}", "{features:.0%}")


def build(networks: Networks, survey: Survey) -> Section:
    """Builds the section with the spread, histograms, maps and neighbors of the features."""
    section = Section("representations", "Representations")
    encoded, clips = survey.encoded, survey.clips
    rows = [
        (
            f"{m} {network}",
            f"{spread.similarity:.3f}",
            f"{spread.rank:.1f} of {min(len(clips) - 1, encoded[network, m].features.shape[1])}",
            *_cells(survey.outputs.get((network, m)), _OUTPUT_CELLS),
            *_cells(survey.classes.get((network, m)), _CLASS_CELLS if survey.classes else ()),
        )
        for (network, m), spread in survey.spreads.items()
    ]
    head = ("", "cosine", "rank", "entropy", "entropy of the mean", "information", "outputs used")
    if survey.classes:
        head += ("class information", "class in outputs", "class in features")
    if rows:
        section.add(table(head, rows))
        limits = (
            f" J = {networks.outputs}, log J = {math.log(networks.outputs):.2f}."
            if survey.outputs
            else ""
        )
        section.say(
            "Cosine: mean cosine between the features of different clips; 1 if all are alike. "
            "Rank: effective number of directions in which the features of these clips differ; "
            "RankMe in Training is of other recordings, and counts their mean. Entropy: mean "
            "entropy, in nats, of the distributions over the J outputs (a teacher's are centered "
            "and sharpened). Entropy of the mean: that of their mean. Information: the difference "
            "of these two, what an output says about its clip, at most "
            f"log n = {math.log(len(clips)):.2f}. Outputs used: how many of the J are the largest "
            "one for any of the clips." + limits + _about_classes(survey),
            "faint",
        )
        section.numbers["spread"] = {
            f"{n}/{m}": spread._asdict() for (n, m), spread in survey.spreads.items()
        }
        section.numbers["outputs"] = {
            f"{n}/{m}": out._asdict() for (n, m), out in survey.outputs.items()
        }
        section.numbers["classes"] = {
            f"{n}/{m}": of_class._asdict() for (n, m), of_class in survey.classes.items()
        }
    section.add("<h3>Distributions</h3>")
    cards = []
    for network in dict.fromkeys(network for network, _ in encoded):
        values = {m: encoded[network, m].features for m in clips.views if (network, m) in encoded}
        cards.append(_histogram(section, f"Features of the {network}s", values))
        values = {
            m: encoded[network, m].projections
            for m in values
            if encoded[network, m].projections is not None
        }
        if values:
            cards.append(_histogram(section, f"Outputs of the {network}s' projectors", values))
    section.add(grid(*cards))
    if len(clips) > 2:
        section.add("<h3>Maps</h3>")
        section.add(grid(*_maps(section, survey)))
    if clips.labels is not None and len(clips) > 1:
        _neighbors(section, survey)
    return section


def _cells(
    measures: representations.Outputs | representations.OfClass | None, formats: Sequence[str]
) -> list[str]:
    """Formats measures for a row of the table; dashes where there are none."""
    if measures is None:
        return ["-"] * len(formats)
    return [form.format(**measures._asdict()) for form in formats]


def _about_classes(survey: Survey) -> str:
    if not survey.classes:
        return ""
    return (
        " Class information: what an output says about the class, in nats, and the entropy of the "
        "classes. Class in outputs and in features: the share of their variance that lies between "
        "classes. All three are corrected for chance. A student can learn from the other "
        "modality's teacher only what both modalities show."
    )


def _histogram(section: Section, title: str, values: Mapping[str, np.ndarray]) -> str:
    x, series = representations.densities(values)
    return section.chart(history.key(title), Lines(f"{title}, density", "value", x, series))


def _maps(section: Section, survey: Survey) -> list[str]:
    clips, encoded = survey.clips, survey.encoded
    labeled = clips.labels is not None
    groups = clips.labels if labeled else np.zeros(len(clips), int)
    names = clips.class_names if labeled else ("clips",)
    shown = [survey.title(n) for n in range(len(clips))]
    cards = []
    for m in clips.views:
        network = "teacher" if ("teacher", m) in encoded else "student"
        points, method = representations.map_to_plane(encoded[network, m].features)
        title = f"Features of the {m} {network}, {method}"
        chart = Scatter(title, points, shown, groups, names)
        cards.append(section.chart(f"map_{m}", chart))
    both = [encoded.get(key) for key in (("student", "video"), ("teacher", "audio"))]
    if all(out is not None and out.projections is not None for out in both):
        # With their means, the modalities would form two separate groups.
        rows = [out.projections - out.projections.mean(axis=0) for out in both]
        points, method = representations.map_to_plane(np.concatenate(rows))
        chart = Scatter(
            f"Outputs of the video student (●) and the audio teacher (■) together, {method}",
            points,
            shown * 2,
            np.concatenate([groups] * 2),
            names,
            ["video"] * len(clips) + ["audio"] * len(clips),
        )
        cards.append(section.chart("map_outputs", chart))
    return cards


def _neighbors(section: Section, survey: Survey) -> None:
    labels = survey.clips.labels
    rows, numbers = [], {}
    for (network, m), out in survey.encoded.items():
        trained = representations.neighbor_accuracy(out.features, labels)
        fresh = survey.untrained.get((network, m))
        untrained = fresh and representations.neighbor_accuracy(fresh.features, labels)
        numbers[f"{network}/{m}"] = {"trained": trained, "untrained": untrained}
        rows.append(
            (f"{m} {network}", f"{trained:.0%}", "-" if fresh is None else f"{untrained:.0%}")
        )
    chance = representations.chance(labels)
    count = len(labels)
    section.add("<h3>Classes among the neighbors</h3>")
    section.add(table(("", "this network", "untrained"), rows))
    error = math.sqrt(0.25 / count)
    section.say(
        f"Share of {count} clips whose class wins the vote of their nearest neighbors (at most "
        f"{representations.NEIGHBORS}) in the features. The clips vote on each other, without a "
        "training set, so the untrained networks alone are comparable. Always predicting the most "
        f"frequent class gives {chance:.0%}. With so few clips, the standard error of each number "
        f"is up to ±{error:.0%}. The evaluations of the paper are in configs/eval/.",
        "faint",
    )
    section.numbers["neighbor_accuracy"] = {**numbers, "chance": chance, "clips": count}
