"""What the log says of the course of training: losses, gradients and data."""

from collections.abc import Collection

import ml_collections
import numpy as np

from xkd_jax.method.models.xkd import MODALITIES
from xkd_jax.report.health import total
from xkd_jax.report.health.findings import LEARNED, NOT_RESTORED, Advice, Finding, since
from xkd_jax.report.history import History
from xkd_jax.run import data_log

# Largest ratio of the encoders' gradient norms that is not called an imbalance.
GRADIENT_IMBALANCE = 10.0


def find(
    history: History,
    config: ml_collections.ConfigDict | None,
    advice: Advice,
    restored: Collection[str] = (),
) -> list[Finding]:
    """Finds what goes well and what goes wrong.

    Args:
        history: Log of the run.
        config: Config of the run; None if unknown.
        advice: Remedies that are left to try.
        restored: Modalities whose reconstruction is measured on clips, which tells more.
    """
    findings = (
        *(_reconstruction(history, m) for m in MODALITIES if m not in restored),
        total.find(history, config, advice),
        _gradients(history),
        _sound(history),
        _data_wait(history),
        _unreadable(history),
    )
    return [finding for finding in findings if finding]


def _reconstruction(history: History, m: str) -> Finding | None:
    steps, errors = history.known(f"reconstruction/{m}")
    if len(errors) < 2:
        return None
    numbers = (
        f"its error is {errors[0]:.3g} at step {steps[0]}, {errors[-1]:.3g} at step {steps[-1]}; "
        "predicting each patch's mean gives 1"
    )
    if errors[-1] < min(LEARNED, errors[0]):
        return Finding("good", f"Reconstruction of masked {m} is learned: {numbers}.")
    text = f"Reconstruction of masked {m} is not learned (yet): {numbers}."
    return Finding("warning", text, remedies=NOT_RESTORED)


def _gradients(history: History) -> Finding | None:
    norms = [history.known(f"gradient_norm/{m}/encoder").values for m in MODALITIES]
    if not all(len(x) for x in norms):
        return None
    recent = [float(np.median(x[-max(1, len(x) // 4) :])) for x in norms]
    weak, strong = (MODALITIES[i] for i in np.argsort(recent, kind="stable"))
    if min(recent) == 0:
        text = f"No gradient reaches the encoder of {weak}: it does not learn."
        return Finding("warning", text)
    ratio = max(recent) / min(recent)
    if ratio <= GRADIENT_IMBALANCE:
        return None
    return Finding(
        "warning",
        f"Modality imbalance: the gradient of the encoder of {strong} is {ratio:.0f} times that of "
        f"{weak}.",
        remedies=(
            f"check that the input of {weak} is alive (below)",
            f"give {weak} the sharper teacher: lower the other's config.xkd.teacher_temperature",
        ),
    )


def _sound(history: History) -> Finding | None:
    steps, shares = history.known("data/with_sound")
    if not len(shares) or shares[-1] >= 0.5:
        return None
    return Finding(
        "warning",
        f"Dead input: only {shares[-1]:.0%} of the clips that were trained on have sound; the "
        "others train the autoencoder of video alone.",
        since(steps, shares < 0.5),
        (
            "give the sets with sound more weight (config.data.weights)"
            if history.data and len(history.data.shares) > 1
            else "leave them out (config.data.require='both')",
        ),
    )


def _data_wait(history: History) -> Finding | None:
    shares = history.known("speed/data_wait").values
    if not len(shares) or np.median(shares) <= 0.3:
        return None
    return Finding(
        "warning",
        f"The devices wait for data {np.median(shares):.0%} of the time.",
        remedies=("prepare the data (input_pipeline.prepare), or raise config.data.threads",),
    )


def _unreadable(history: History) -> Finding | None:
    """Finds clips that were replaced because their recordings could not be read."""
    steps, counts = history.known(data_log.REPLACED)
    if not counts.any() and not history.unreadable:
        return None
    text = data_log.replaced_in_words(int(counts.sum()), history.unreadable)
    began = int(steps[counts > 0][0]) if counts.any() else None
    remedy = "mend or take away the files that unreadable-*.json in the run's folder names"
    return Finding("warning", f"{text}.", since=began, remedies=(remedy,))
