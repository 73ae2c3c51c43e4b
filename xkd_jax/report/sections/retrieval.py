"""Which sounds find their videos, and videos their sounds."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from xkd_jax.report import attention, representations
from xkd_jax.report.networks import OTHER
from xkd_jax.report.page import Section, escape, grid, image, table
from xkd_jax.report.survey import Survey

_SHOWN_QUERIES, _SHOWN_CANDIDATES = 4, 5


def build(survey: Survey) -> Section:
    """Which sounds find their videos, and videos their sounds."""
    section = Section("retrieval", "Retrieval")
    count = len(survey.clips)
    depths = list(next(iter(survey.retrievals.values()))[0].recall)
    rows, numbers = [], {}
    for name, pair in survey.retrievals.items():
        for found in pair:
            direction = f"{_heard(found.queries)} → {_heard(OTHER[found.queries])}"
            numbers.setdefault(name, {})[direction] = {
                "recall": {str(k): r for k, r in found.recall.items()},
                "same_class": {str(k): r for k, r in found.same_class.items()},
            }
            alike = [f"{r:.0%}" for k, r in found.same_class.items() if k in (1, 10)]
            recall = [f"{found.recall[k]:.1%}" for k in depths]
            rows.append((f"{direction}, {name}", *recall, *alike))
    alike_head = []
    if survey.clips.labels is not None:
        kept = next(iter(survey.retrievals.values()))[0].same_class
        alike_head = [f"same class @{k}" for k in kept if k in (1, 10)]
    rows.append(("chance", *(f"{k / count:.1%}" for k in depths), *_chance(survey, alike_head)))
    head = ("", *(f"recall@{k}" for k in depths), *alike_head)
    section.add(table(head, rows))
    section.say(
        f"Among {count} clips, by the cosine of the projectors' outputs, each network's mean taken "
        "off. Recall: the query's own other half is among the first k. Same class: share of the "
        "first k others that are of the query's class. A student is trained to agree with the "
        "other modality's teacher, which the first two lines measure.",
        "faint",
    )
    section.numbers = {"clips": count, "spaces": numbers}
    first = next(iter(survey.retrievals.values()))
    for found in first:
        section.add(
            f"<h3>{_heard(found.queries).capitalize()} → {_heard(OTHER[found.queries])}: "
            "the nearest</h3>"
        )
        shown = survey.examples[:_SHOWN_QUERIES]
        section.add(grid(*(_nearest(survey, found, n) for n in shown)))
        section.pictures[f"retrieval_{found.queries}"] = _nearest_picture(survey, found, shown)
    if survey.clips.labels is not None:
        section.say(
            "Green: the query's own other half. Orange: another clip of its class.", "faint"
        )
    return section


def _chance(survey: Survey, heads: Sequence[str]) -> list[str]:
    if not heads:
        return []
    labels = survey.clips.labels
    counts = np.bincount(labels)
    same = float((counts[labels] - 1).mean() / (len(labels) - 1))
    return [f"{same:.0%}"] * len(heads)


def _heard(modality: str) -> str:
    return {"audio": "sound", "video": "video"}[modality]


def _look(survey: Survey, modality: str, n: int) -> np.ndarray:
    """A square picture of a clip."""
    view = survey.clips.views[modality][n]
    if modality == "video":
        return view[len(view) // 2]
    return attention.spectrogram(view[None])[0]


def _nearest(survey: Survey, found: representations.Retrieval, n: int) -> str:
    other, labels = OTHER[found.queries], survey.clips.labels
    asked = (
        f"<figure class='asked'>{image(_square(_look(survey, found.queries, n)), 'the query')}"
        f"<figcaption>asked: {escape(survey.title(n))}</figcaption></figure>"
    )
    answers = ""
    for place, candidate in enumerate(found.nearest(n, _SHOWN_CANDIDATES), 1):
        alike = labels is not None and labels[candidate] == labels[n]
        kind = "own" if candidate == n else "alike" if alike else ""
        look = image(_square(_look(survey, other, candidate)), f"answer {place}")
        answers += (
            f'<figure class="{kind}">{look}'
            f"<figcaption>{place}. {escape(survey.title(candidate))}</figcaption></figure>"
        )
    return f'<div class="card wide"><div class="neighbors">{asked}{answers}</div></div>'


def _nearest_picture(
    survey: Survey, found: representations.Retrieval, shown: Sequence[int]
) -> np.ndarray:
    rows = {}
    for n in shown:
        answers = [
            _look(survey, OTHER[found.queries], c) for c in found.nearest(n, _SHOWN_CANDIDATES)
        ]
        looks = [_square(x, 112) for x in (_look(survey, found.queries, n), *answers)]
        gap = np.full((112, 16, 3), 255, np.uint8)
        rows[survey.title(n)[-34:]] = np.concatenate([looks[0], gap, *looks[1:]], axis=1)
    return attention.montage(rows)


def _square(pixels: np.ndarray, size: int = 144) -> np.ndarray:
    resample = Image.Resampling.NEAREST if pixels.shape[0] < size else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((size, size), resample))
