"""The section with the table of the task `compare`: what pretraining has brought."""

from xkd_jax.downstream import metrics
from xkd_jax.downstream.selection import FEATURES
from xkd_jax.report.comparison import CLASSIFIERS, Comparison, Score
from xkd_jax.report.page import Section, table

TITLE = "Evaluation"


def build(comparison: Comparison) -> Section:
    """Builds the section with the scores of pretrained and of untrained networks."""
    section = Section("evaluation", TITLE)
    section.say(
        f"How well a classifier finds the classes of {comparison.recordings} test recordings from "
        f"features of the {comparison.network}s, after it has learned from other recordings with "
        f"their classes: {metrics.TITLES[comparison.metric]} in %, for the pretrained networks and "
        "for the same networks with random weights. The gain, in points, is that of the whole "
        "pretraining. For the part of the cross-modal losses, compare with a run without them: "
        "--config.xkd.lambda_da=0.0 --config.xkd.lambda_kd=0.0."
    )
    rows = [
        (
            f"{FEATURES[row.features]}, {CLASSIFIERS[row.classifier]}",
            _percent(row.pretrained),
            _percent(row.untrained),
            f"{100 * (row.pretrained.mean - row.untrained.mean):+.1f}",
        )
        for row in comparison.rows
    ]
    chance = f"{100 * comparison.chance:.1f}"
    rows.append(("chance", chance, chance, ""))
    section.add(table(("features, classifier", "pretrained", "untrained", "gain"), rows))
    section.say(
        "Both: features of video and audio side by side. Nearest neighbors: the vote of the most "
        "similar training recordings, which needs features that are alike within a class; a "
        "linear SVM finds classes that a plane can separate. Made by the task compare.",
        "faint",
    )
    section.numbers = {
        "metric": comparison.metric,
        "network": comparison.network,
        "recordings": comparison.recordings,
        "chance": comparison.chance,
        "rows": [
            {
                "features": row.features,
                "classifier": row.classifier,
                "pretrained": row.pretrained._asdict(),
                "untrained": row.untrained._asdict(),
                "gain": row.pretrained.mean - row.untrained.mean,
            }
            for row in comparison.rows
        ],
    }
    return section


def _percent(score: Score) -> str:
    spread = "" if score.spread is None else f" ± {100 * score.spread:.1f}"
    return f"{100 * score.mean:.1f}{spread}"
