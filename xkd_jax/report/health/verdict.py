"""A verdict on a run in words: collapsed or not, by which evidence and since when."""

import dataclasses
from collections.abc import Sequence

import ml_collections

from input_pipeline.programs.wording import counted
from xkd_jax.report.health import course, early, monitors, outputs
from xkd_jax.report.health.findings import LEVELS, Advice, Finding
from xkd_jax.report.health.outputs import Measured
from xkd_jax.report.history import History


@dataclasses.dataclass(frozen=True)
class Verdict:
    """All findings about a run, summed up.

    Attributes:
        level: Level of the worst finding; `note` if nothing is known.
        headline: One sentence.
        findings: Findings, the worst first.
    """

    level: str
    headline: str
    findings: tuple[Finding, ...]


def judge(
    history: History | None,
    config: ml_collections.ConfigDict | None,
    output_count: int | None,
    measured: Measured | None,
    table: str | None = None,
) -> Verdict:
    """Judges a run by its log and by its outputs for clips.

    Args:
        history: Log of the run; None if there is none.
        config: Config of the run; None if unknown.
        output_count: J, the number of a projector's outputs; None if unknown.
        measured: Measurements of clips; None if there are none.
        table: Title of the section with the accuracies of an evaluation; None without one.
    """
    advice = Advice(config)
    findings: list[Finding] = []
    if history is not None and len(history):
        if output_count:
            findings += monitors.find(history, output_count, advice)
        else:
            findings += early.find(history, advice).values()
        restored = () if measured is None or measured.clips < 2 else measured.errors
        findings += course.find(history, config, advice, restored)
    if measured is not None:
        findings += outputs.find(measured, advice, table)
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    evidence = []
    if history is not None:
        evidence.append("the monitors that the run logged")
    if measured is not None:
        evidence.append("what its networks make of clips")
    return _sum_up(findings, " and ".join(evidence))


def _sum_up(findings: Sequence[Finding], evidence: str) -> Verdict:
    """Sums up findings, the worst first, in a verdict that names the evidence."""
    if not findings:
        return Verdict("note", "There is nothing here that a verdict could rest on.", ())
    level = findings[0].level
    if level == "collapsed":
        return Verdict(level, _collapse_headline(findings), tuple(findings))
    warnings = sum(finding.level == "warning" for finding in findings)
    if warnings:
        number = "a warning" if warnings == 1 else counted(warnings, "warning")
        statement = f"Not collapsed, with {number}"
    elif level == "good":
        statement = "Not collapsed, and learning"
    else:
        statement = "Nothing wrong was found"
    return Verdict(level, f"{statement}; judged by {evidence}.", tuple(findings))


def _collapse_headline(findings: Sequence[Finding]) -> str:
    """Names the collapse that began first, or the first one if the log does not say."""
    collapses = [finding for finding in findings if finding.level == "collapsed"]
    dated = [finding for finding in collapses if finding.since is not None]
    if not dated:
        return f"Collapsed. {collapses[0].text}"
    first = min(dated, key=lambda finding: finding.since)
    return f"Collapsed, since step {first.since}. {first.text}"
