"""The section with the verdict, the facts about the run, and what cannot be shown."""

from collections.abc import Sequence
from typing import Any

from input_pipeline.programs.wording import counted
from xkd_jax.encoders.networks import Networks
from xkd_jax.report import history
from xkd_jax.report.health.verdict import Verdict
from xkd_jax.report.page import Section, escape
from xkd_jax.report.survey import Survey
from xkd_jax.run import data_log

_SHOWN_LEFT_OUT = 20  # files


def build(
    judgment: Verdict,
    facts: Sequence[tuple[str, object]],
    missing: Sequence[str],
    left_out: Sequence[tuple[str, str]] = (),
) -> Section:
    """Builds the section with the verdict.

    Args:
        judgment: Verdict with its findings.
        facts: Names and values of what the report is about.
        missing: Lines that say what cannot be shown, and why.
        left_out: Names of files that cannot be used, each with the reason.
    """
    section = Section("verdict", "Verdict")
    section.numbers = {
        "level": judgment.level,
        "headline": judgment.headline,
        "findings": [
            {
                "level": f.level,
                "text": f.text,
                "since_step": f.since,
                "try": list(f.remedies),
            }
            for f in judgment.findings
        ],
    }
    section.add(
        f'<div class="verdict {judgment.level}"><strong>{escape(judgment.headline)}</strong></div>'
    )
    items = []
    for f in judgment.findings:
        since = f" Seen since step {f.since}." if f.since is not None else ""
        tips = (
            f'<span class="try">Try: {escape("; ".join(f.remedies))}.</span>' if f.remedies else ""
        )
        badge = f'<span class="badge {f.level}">{f.level}</span>'
        items.append(f"<li>{badge}{escape(f.text + since)}{tips}</li>")
    if items:
        section.add(f'<ul class="findings">{"".join(items)}</ul>')
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts)
    section.add(f"<h3>What this report is about</h3><dl>{pairs}</dl>")
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


def facts_of(
    networks: Networks | None, log: history.History | None, survey: Survey | None, path: str
) -> list[tuple[str, Any]]:
    """Lists the folder, weights, encoders, log and clips that the report is about."""
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
        rows.append(("log", f"{counted(len(log), 'line')} up to step {log.steps[-1]}"))
        if log.data is not None:
            rows.append(("data", _data(log.data)))
    if survey is not None:
        rows.append(("clips", survey.clips.origin))
    return rows


def _data(counts: data_log.Counts) -> str:
    """Says how many recordings a run draws from, what others lack, and what a mixture is of."""
    lacking = {"sound": counts.without_sound, "picture": counts.without_picture}
    words = [f"{count} without {name}" for name, count in lacking.items() if count]
    if words and counts.used < counts.recordings:
        words.append(f"{counts.recordings - counts.used} of these left out")
    if len(counts.shares) > 1:
        parts = [f"{share:.1%} from {folder}" for folder, share in counts.shares.items()]
        words.append(f"of the examples, {', '.join(parts)}")
    return "; ".join([counted(counts.recordings, "recording"), *words])
