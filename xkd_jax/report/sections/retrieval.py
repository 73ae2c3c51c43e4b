"""The section on retrieval: how well audio finds the video of its clip, and video the audio."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from xkd_jax.method.models.xkd import OTHER
from xkd_jax.report import attention, representations
from xkd_jax.report.page import Section, escape, grid, image, table
from xkd_jax.report.survey import Survey

_SHOWN_QUERIES, _SHOWN_CANDIDATES = 4, 5
# Frames of answers, by their CSS class.
_LEGEND = {
    "own": "Green: the query's own clip.",
    "alike": "Orange: another clip of the same class.",
}


def build(survey: Survey) -> Section:
    """Builds the section with the recalls and the nearest candidates of some queries."""
    section = Section("retrieval", "Retrieval")
    count = len(survey.clips)
    section.say(
        f"A clip's sound is to find the video of the same clip among all {count}, and its video "
        f"the sound. A guess is right in {1 / count:.1%} of the cases. The networks have learned "
        "what goes together where a line is well above chance (the last line) and above the "
        "untrained networks."
    )
    depths = list(next(iter(survey.retrievals.values()))[0].recall)
    rows, numbers = [], {}
    for name, pair in survey.retrievals.items():
        for retrieval in pair:
            direction = f"{_called(retrieval.queries)} → {_called(OTHER[retrieval.queries])}"
            numbers.setdefault(name, {})[direction] = {
                "recall": {str(k): r for k, r in retrieval.recall.items()},
                "same_class": {str(k): r for k, r in retrieval.same_class.items()},
            }
            alike = [f"{r:.0%}" for k, r in retrieval.same_class.items() if k in (1, 10)]
            recall = [f"{retrieval.recall[k]:.1%}" for k in depths]
            rows.append((f"{direction}, {name}", *recall, *alike))
    alike_head = []
    if survey.clips.labels is not None:
        same_class = next(iter(survey.retrievals.values()))[0].same_class
        alike_head = [f"same class @{k}" for k in same_class if k in (1, 10)]
    rows.append(("chance", *(f"{k / count:.1%}" for k in depths), *_chance(survey, alike_head)))
    head = ("", *(f"recall@{k}" for k in depths), *alike_head)
    section.add(table(head, rows))
    section.say(
        f"Among {count} clips, ranked by the cosine of the projectors' outputs after subtracting "
        "each network's mean. Recall@k: share of queries whose own clip is among the first k. Same "
        "class@k: share of the first k other clips that have the query's class. Training makes a "
        "student agree with the other modality's teacher; the first two lines measure that. "
        "Refinement gives a teacher the other modality's attention in the same clip, which helps "
        "to find it; configs/eval/retrieval.py evaluates without refinement.",
        "faint",
    )
    section.numbers = {"clips": count, "spaces": numbers}
    pictured, pair = next(iter(survey.retrievals.items()))
    shown = survey.examples[:_SHOWN_QUERIES]
    for retrieval in pair:
        section.add(
            f"<h3>{_called(retrieval.queries).capitalize()} → {_called(OTHER[retrieval.queries])}: "
            f"the nearest ({pictured})</h3>"
        )
        section.add(grid(*(_nearest(survey, retrieval, n) for n in shown)))
        section.pictures[f"retrieval_{retrieval.queries}"] = _nearest_picture(
            survey, retrieval, shown
        )
    kinds = {
        _kind(survey, n, candidate)
        for retrieval in pair
        for n in shown
        for candidate in retrieval.nearest(n, _SHOWN_CANDIDATES)
    }
    legend = " ".join(text for kind, text in _LEGEND.items() if kind in kinds)
    section.say(f"Left what is asked, then the answers, the most similar first. {legend}", "faint")
    return section


def _kind(survey: Survey, n: int, candidate: int) -> str:
    """Tells what an answer to query n is: its own clip, one alike in class, or neither."""
    labels = survey.clips.labels
    if candidate == n:
        return "own"
    return "alike" if labels is not None and labels[candidate] == labels[n] else ""


def _chance(survey: Survey, heads: Sequence[str]) -> list[str]:
    if not heads:
        return []
    labels = survey.clips.labels
    counts = np.bincount(labels)
    same = float((counts[labels] - 1).mean() / (len(labels) - 1))
    return [f"{same:.0%}"] * len(heads)


def _called(modality: str) -> str:
    return {"audio": "sound", "video": "video"}[modality]


def _thumbnail(survey: Survey, modality: str, n: int) -> np.ndarray:
    """Returns a picture of a clip: its middle frame or its spectrogram."""
    view = survey.clips.views[modality][n]
    if modality == "video":
        return view[len(view) // 2]
    return attention.spectrogram(view[None])[0]


def _nearest(survey: Survey, retrieval: representations.Retrieval, n: int) -> str:
    other = OTHER[retrieval.queries]
    asked = image(_square(_thumbnail(survey, retrieval.queries, n)), "the query")
    asked = (
        f"<figure class='asked'>{asked}"
        f"<figcaption>asked: {escape(survey.title(n))}; its own clip is answer "
        f"{retrieval.place(n)}</figcaption></figure>"
    )
    answers = ""
    for place, candidate in enumerate(retrieval.nearest(n, _SHOWN_CANDIDATES), 1):
        kind = _kind(survey, n, candidate)
        thumbnail = image(_square(_thumbnail(survey, other, candidate)), f"answer {place}")
        answers += (
            f'<figure class="{kind}">{thumbnail}'
            f"<figcaption>{place}. {escape(survey.title(candidate))}</figcaption></figure>"
        )
    return f'<div class="card wide"><div class="neighbors">{asked}{answers}</div></div>'


def _nearest_picture(
    survey: Survey, retrieval: representations.Retrieval, shown: Sequence[int]
) -> np.ndarray:
    rows = {}
    for n in shown:
        answers = [
            _thumbnail(survey, OTHER[retrieval.queries], c)
            for c in retrieval.nearest(n, _SHOWN_CANDIDATES)
        ]
        thumbnails = [_square(x, 112) for x in (_thumbnail(survey, retrieval.queries, n), *answers)]
        gap = np.full((112, 16, 3), 255, np.uint8)
        rows[survey.title(n)[-34:]] = np.concatenate([thumbnails[0], gap, *thumbnails[1:]], axis=1)
    return attention.montage(rows)


def _square(pixels: np.ndarray, size: int = 144) -> np.ndarray:
    resample = Image.Resampling.NEAREST if pixels.shape[0] < size else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((size, size), resample))
