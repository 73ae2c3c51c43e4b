"""The sections of the page: what was found, in words, tables, charts, pictures and sounds."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xkd_jax.report import attention, history, reconstructions, representations, sound
from xkd_jax.report.charts import Lines, Mark, Scatter
from xkd_jax.report.health import Verdict
from xkd_jax.report.networks import OTHER, Networks
from xkd_jax.report.page import (
    Section,
    audio,
    escape,
    grid,
    image,
    player,
    sprite,
    table,
    tabs,
)
from xkd_jax.report.survey import Survey

_SMALL = 100  # pixels of frames up to which the page shows each as a square
_SHOWN_QUERIES, _SHOWN_CANDIDATES = 4, 5
_SHOWN_ATTENTION = 2
_SHOWN_LEFT_OUT = 20  # files


def verdict(
    found: Verdict,
    facts: Sequence[tuple[str, object]],
    missing: Sequence[str],
    left_out: Sequence[tuple[str, str]] = (),
) -> Section:
    """How the run is, what is looked at, and what cannot be shown or used."""
    section = Section("verdict", "Verdict")
    section.numbers = {
        "level": found.level,
        "headline": found.headline,
        "findings": [
            {
                "level": f.level,
                "text": f.text,
                "since_step": f.since,
                "try": list(f.remedies),
            }
            for f in found.findings
        ],
    }
    section.add(
        f'<div class="verdict {found.level}"><strong>{escape(found.headline)}</strong></div>'
    )
    items = []
    for f in found.findings:
        since = f" Since step {f.since}." if f.since is not None else ""
        tips = (
            f'<span class="try">Try: {escape("; ".join(f.remedies))}.</span>' if f.remedies else ""
        )
        badge = f'<span class="badge {f.level}">{f.level}</span>'
        items.append(f"<li>{badge}{escape(f.text + since)}{tips}</li>")
    if items:
        section.add(f'<ul class="findings">{"".join(items)}</ul>')
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts)
    section.add(f"<h3>What was looked at</h3><dl>{pairs}</dl>")
    if missing:
        lines = "".join(f"<li>{escape(line)}</li>" for line in missing)
        section.add(f"<h3>What cannot be shown</h3><ul>{lines}</ul>")
    if left_out:
        lines = "".join(
            f"<li>{escape(name)}: {escape(reason)}</li>"
            for name, reason in left_out[:_SHOWN_LEFT_OUT]
        )
        more = len(left_out) - _SHOWN_LEFT_OUT
        lines += f"<li>and {more} more</li>" if more > 0 else ""
        section.add(f"<h3>Files that cannot be used</h3><ul>{lines}</ul>")
    section.numbers |= {"not_shown": list(missing), "left_out": [list(x) for x in left_out]}
    return section


def curves(log: history.History, found: Verdict) -> Section:
    """Everything that the run logged, with its new starts and warnings."""
    section = Section("training", "Training")
    marks = [Mark(step, "resume", f"started again after step {step}") for step in log.resumes]
    marks += [
        Mark(f.since, "warning", f.text)
        for f in found.findings
        if f.since is not None and f.level in ("collapsed", "warning")
    ]
    section.say(
        f"{len(log)} lines of the log, steps {log.steps[0]} to {log.steps[-1]}. Point at a chart "
        "to read it; drag over a stretch to zoom all of them, double-click to go back. ↻ marks "
        "where the run was started again, ▲ what the verdict warns of.",
        "faint",
    )
    cards = []
    for title, names in history.charts(log).items():
        prefix = names[0].split("/")[0] + "/"
        short = all(name.startswith(prefix) for name in names)
        series = {
            (name.removeprefix(prefix) if short else name): log.metrics[name] for name in names
        }
        chart = Lines(title, "step", log.steps.astype(float), series, marks, "training")
        cards.append(section.chart(history.key(title), chart))
    section.add(grid(*cards))
    section.numbers = {
        "steps": [int(log.steps[0]), int(log.steps[-1])],
        "resumed_after": log.resumes,
        "unreadable_lines": log.torn,
        "warnings": [{"step": int(m.x), "text": m.text} for m in marks if m.kind == "warning"],
        "first": {name: _plain(values) for name, values in _ends(log, 0).items()},
        "last": {name: _plain(values) for name, values in _ends(log, -1).items()},
    }
    return section


def reconstruction(
    networks: Networks, survey: Survey, advance: Callable[[str, int], object]
) -> Section:
    """Masked views beside what the student makes of them, to be seen, played and heard."""
    section = Section("reconstruction", "Reconstruction")
    section.say(
        "The student sees a random few of the patches and restores the others. Each predicted "
        "patch is given the mean and the deviation of the original one, which the network does not "
        "predict; the visible patches are the original's."
    )
    section.numbers = {"error": {}, "error_of_patch_means": survey.baselines}
    rows, trained = [], []
    for m, restored in survey.restored.items():
        trained_at = networks.config.model[m].mask_ratio
        section.numbers["error"][m] = {f"{ratio:g}": r.error for ratio, r in restored.items()}
        rows += [
            (
                m,
                f"{ratio:.0%}",
                f"{r.error:.3f} ± {r.spread:.3f}",
                f"{survey.baselines[m]:.3f}",
                f"{1 - r.error / survey.baselines[m]:.0%}",
            )
            for ratio, r in restored.items()
        ]
        trained.append(f"{trained_at:.0%} of the {m}")
    head = ("", "masked", "error", "of patch means", "explained")
    section.add(table(head, rows))
    section.say(
        "Mean squared error of the masked patches in the space of normalized patches, on all clips "
        "looked at, ± its standard error; beside it that of predicting each patch's mean. The "
        f"training masks {' and '.join(trained)}.",
        "faint",
    )
    if "video" in survey.restored:
        section.add("<h3>Video</h3>")
        rate = networks.view("video")["frame_rate"]
        _video(section, survey, rate)
    if "audio" in survey.restored:
        section.add("<h3>Sound</h3>")
        section.say(
            "All sounds, the original too, are made from log-mels by Griffin and Lim's method, "
            "which invents the phases: compare the reconstruction with the original as it sounds "
            "here. What is masked is silent.",
            "faint",
        )
        _audio(section, networks, survey, advance)
    return section


def _video(section: Section, survey: Survey, rate: float) -> None:
    restored = survey.restored["video"]
    first = f"{min(restored, key=lambda ratio: abs(ratio - 0.8)):.0%}"
    for k, n in enumerate(survey.examples):
        original = restored[min(restored)].rows[0, k]
        small = original.shape[1] <= _SMALL
        frames = sprite(f"original_{k}", original)
        contents = {}
        for ratio, r in restored.items():
            percent = round(100 * ratio)
            keys = {
                "original": f"original_{k}",
                f"{percent}% masked": f"masked_{k}_{percent}",
                "reconstructed": f"restored_{k}_{percent}",
            }
            frames += sprite(f"masked_{k}_{percent}", r.rows[1, k])
            frames += sprite(f"restored_{k}_{percent}", r.rows[2, k])
            contents[f"{ratio:.0%}"] = player(keys, len(original), rate, small)
        title = f"<h3>{escape(title_of(survey, n))}</h3>"
        section.add(f'<div class="card">{title}{frames}{tabs("masked:", contents, first)}</div>')
    for ratio, r in restored.items():
        section.pictures[f"reconstruction_video_{round(100 * ratio)}"] = (
            reconstructions.video_montage(r.rows, rate)
        )


def _audio(
    section: Section, networks: Networks, survey: Survey, advance: Callable[[str, int], object]
) -> None:
    restored, view = survey.restored["audio"], networks.view("audio")
    first = f"{min(restored, key=lambda ratio: abs(ratio - 0.8)):.0%}"
    for k, n in enumerate(survey.examples):
        original = restored[min(restored)].rows[0, k]
        limits = attention.value_range(original)
        heard = sound.waveform(original, view)
        advance("sounds", 1)
        contents = {}
        for ratio, r in restored.items():
            made = [sound.waveform(r.rows[row, k], view) for row in (1, 2)]
            advance("sounds", len(made))
            sounds = sound.leveled(heard, *made)
            looks = attention.spectrogram(r.rows[:, k], limits=limits)
            captions = ("original", f"{ratio:.0%} masked", "reconstructed")
            contents[f"{ratio:.0%}"] = _sounds(captions, looks, sounds, view["sample_rate"])
        title = f"<h3>{escape(title_of(survey, n))}</h3>"
        section.add(f'<div class="card">{title}{tabs("masked:", contents, first)}</div>')
    for ratio, r in restored.items():
        section.pictures[f"reconstruction_audio_{round(100 * ratio)}"] = (
            reconstructions.audio_montage(r.rows, networks.config.views.audio)
        )


def _sounds(
    captions: Sequence[str], looks: np.ndarray, sounds: Sequence[np.ndarray], rate: int
) -> str:
    figures = "".join(
        f"<figure>{image(pixels, f'log-mel, {caption}')}"
        f"{audio(sound.mp3(samples, rate), caption)}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, pixels, samples in zip(captions, looks, sounds, strict=True)
    )
    return f'<div class="panels sound">{figures}</div>'


def attended(networks: Networks, survey: Survey) -> Section:
    """Where the last layer of each network looks."""
    section = Section("attention", "Attention")
    section.say(
        "What the CLS token attends to in the last block: bright is much, each map on a scale of "
        "its own. Refinement scales the heads by what the other modality attends to, so that it "
        "changes their mean, not the picture of one head."
    )
    shifts = {
        f"{network}/{m}": attention.shift(made.attention, made.refined_attention)
        for (network, m), made in survey.encoded.items()
        if made.refined_attention is not None
    }
    if shifts:
        moved = ", ".join(f"{name.replace('/', ' of ')} {x:.2%}" for name, x in shifts.items())
        section.say(f"Share of the weight that refinement moves to other tokens: {moved}.", "faint")
    section.numbers = {"moved_by_refinement": shifts}
    lay = {"video": attention.over_frames, "audio": attention.over_spectrogram}
    for k, n in enumerate(survey.examples[:_SHOWN_ATTENTION]):
        for m in survey.clips.views:
            view, patches = survey.clips.views[m][n], networks.grid(m)
            contents, strips = {}, {m: lay[m](view, None, patches)}
            style = 'class="flat"' if m == "audio" else ""
            for network in networks.networks_of(m):
                made = survey.encoded[network, m]
                refined = made.refined_attention
                maps = attention.maps(made.attention[n], None if refined is None else refined[n])
                laid = {x.name: lay[m](view, x.weights, patches) for x in maps}
                strips |= {f"{network}, {name}": pixels for name, pixels in laid.items()}
                rows = {("frames" if m == "video" else "log-mel"): strips[m]} | laid
                contents[network] = "".join(
                    f'<div class="strip"><span>{escape(name)}</span>'
                    f"{image(pixels, f'{network} of {m}: {name}', style)}</div>"
                    for name, pixels in rows.items()
                )
            title = f"<h3>{m}: {escape(title_of(survey, n))}</h3>"
            inner = tabs("network:", contents, next(iter(contents)))
            section.add(f'<div class="card">{title}{inner}</div>')
            section.pictures[f"attention_{m}_{k + 1}"] = attention.montage(strips)
    return section


def distributions(networks: Networks, survey: Survey) -> Section:
    """How features and outputs lie: numbers, histograms and maps."""
    section = Section("representations", "Representations")
    encoded, clips = survey.encoded, survey.clips
    rows = [
        (
            f"{m} {network}",
            f"{spread.similarity:.3f}",
            f"{spread.rank:.1f} of {min(len(clips) - 1, encoded[network, m].features.shape[1])}",
            *(_of_outputs(survey, network, m)),
        )
        for (network, m), spread in survey.spreads.items()
    ]
    head = ("", "cosine", "rank", "entropy", "of the mean", "tells", "outputs used")
    if rows:
        section.add(table(head, rows))
        known = (
            f" J = {networks.outputs}, log J = {math.log(networks.outputs):.2f}."
            if survey.outputs
            else ""
        )
        section.say(
            "Cosine: between features of different clips, on average, 1 if all are alike. Rank: "
            "how many directions the features really use. Entropy, in nats: of the distribution "
            "over the J outputs (a teacher's centered and sharpened), and of their mean; the "
            "difference is what an output tells of the clip, at most "
            f"log n = {math.log(len(clips)):.2f}." + known,
            "faint",
        )
        section.numbers["spread"] = {
            f"{n}/{m}": spread._asdict() for (n, m), spread in survey.spreads.items()
        }
        section.numbers["outputs"] = {
            f"{n}/{m}": out._asdict() for (n, m), out in survey.outputs.items()
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


def _of_outputs(survey: Survey, network: str, modality: str) -> tuple[str, ...]:
    out = survey.outputs.get((network, modality))
    if out is None:
        return ("-",) * 4
    return (
        f"{out.entropy:.2f}",
        f"{out.marginal:.2f}",
        f"{out.information:.2f}",
        str(out.used),
    )


def _histogram(section: Section, title: str, values: Mapping[str, np.ndarray]) -> str:
    x, series = representations.densities(values)
    return section.chart(history.key(title), Lines(f"{title}, density", "value", x, series))


def _maps(section: Section, survey: Survey) -> list[str]:
    clips, encoded = survey.clips, survey.encoded
    labelled = clips.labels is not None
    groups = clips.labels if labelled else np.zeros(len(clips), int)
    names = clips.class_names if labelled else ("clips",)
    shown = [title_of(survey, n) for n in range(len(clips))]
    cards = []
    for m in clips.views:
        network = "teacher" if ("teacher", m) in encoded else "student"
        points, method = representations.plane(encoded[network, m].features)
        title = f"Features of the {m} {network}, {method}"
        chart = Scatter(title, points, shown, groups, names)
        cards.append(section.chart(f"map_{m}", chart))
    both = [encoded.get(key) for key in (("student", "video"), ("teacher", "audio"))]
    if all(made is not None and made.projections is not None for made in both):
        # Each without its mean: the modalities would lie apart, which the table tells already.
        rows = [made.projections - made.projections.mean(axis=0) for made in both]
        points, method = representations.plane(np.concatenate(rows))
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
    for (network, m), made in survey.encoded.items():
        trained = representations.neighbor_accuracy(made.features, labels)
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
        f"Share of {count} clips whose class most of their nearest neighbors by features have (at "
        f"most {representations.NEIGHBORS}), each left out in turn; the commonest class makes "
        f"{chance:.0%}. So few clips leave each number uncertain by up to ±{error:.0%}: the "
        "evaluations of the paper are configs/eval/.",
        "faint",
    )
    section.numbers["neighbor_accuracy"] = {**numbers, "chance": chance, "clips": count}


def retrieval(survey: Survey) -> Section:
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
        f"<figcaption>asked: {escape(title_of(survey, n))}</figcaption></figure>"
    )
    answers = ""
    for place, candidate in enumerate(found.nearest(n, _SHOWN_CANDIDATES), 1):
        alike = labels is not None and labels[candidate] == labels[n]
        kind = "own" if candidate == n else "alike" if alike else ""
        look = image(_square(_look(survey, other, candidate)), f"answer {place}")
        answers += (
            f'<figure class="{kind}">{look}'
            f"<figcaption>{place}. {escape(title_of(survey, candidate))}</figcaption></figure>"
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
        rows[title_of(survey, n)[-34:]] = np.concatenate([looks[0], gap, *looks[1:]], axis=1)
    return attention.montage(rows)


def _square(pixels: np.ndarray, size: int = 144) -> np.ndarray:
    from PIL import Image

    resample = Image.Resampling.NEAREST if pixels.shape[0] < size else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((size, size), resample))


def title_of(survey: Survey, n: int) -> str:
    """A clip's name, short enough for people."""
    parts = survey.clips.names[n].replace("\\", "/").split("/")
    return "/".join(parts[-2:])


def _ends(log: history.History, end: int) -> dict[str, float]:
    """The first or last known value of each metric."""
    known = {name: values[np.isfinite(values)] for name, values in log.metrics.items()}
    return {name: float(values[end]) for name, values in known.items() if len(values)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def facts_of(
    networks: Networks | None, log: history.History | None, survey: Survey | None, path: str
) -> list[tuple[str, Any]]:
    """What was looked at, as rows of a table."""
    rows: list[tuple[str, Any]] = [("folder", path)]
    if networks is not None:
        provenance = networks.description["provenance"]
        step = provenance.get("step")
        rows.append(
            ("weights", f"checkpoint of step {step}" if step is not None else provenance["source"])
        )
        for m in networks.modalities:
            size = networks.description["architecture"][m]["encoder"]
            patch = "x".join(map(str, networks.patch(m)))
            rows.append(
                (
                    f"{m} encoder",
                    f"width {size['width']}, depth {size['depth']}, {size['heads']} heads, patches "
                    f"of {patch}; {' and '.join(networks.networks_of(m))}",
                )
            )
    if log is not None and len(log):
        rows.append(("log", f"{len(log)} lines up to step {log.steps[-1]}"))
    if survey is not None:
        rows.append(("clips", survey.clips.origin))
    return rows
