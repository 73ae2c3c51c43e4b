"""A pretraining on a mixture of prepared sets, from the flags to the report."""

import json

import pytest

from tests.input_pipeline.prepared_files import clock_record, write_prepared
from tests.integration import runs


@pytest.mark.slow  # four runs and a report in processes of their own
def test_a_mixture_resumes_to_the_same_bits_and_says_what_has_changed(tmp_path):
    both = [clock_record(f"{n}.mp4", 2.0 + n / 4) for n in range(6)]
    sounds = [clock_record(f"{n}.wav", 2.0 + n / 4, picture=False) for n in range(4)]
    folders = [tmp_path / "videos", tmp_path / "sounds"]
    write_prepared(folders[0], {"train": both})
    write_prepared(folders[1], {"train": sounds})
    flags = ["--config.data.dataset=prepared", *(f"--config.data.sources={f}" for f in folders)]
    flags += ["--config.data.weights=3,1", "--config.data.require=any"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    code, output = runs.run(*flags, f"--workdir={whole}")
    assert code == 0, output
    assert f"  {folders[0]}: 75.00% of the examples, 12 passes\n" in output
    assert f"  {folders[1]}: 25.00% of the examples, 6 passes\n" in output

    process = runs.start(*flags, f"--workdir={parts}")
    runs.wait_for_step(process, parts, 5)
    process.kill()
    process.communicate()
    code, output = runs.run(*flags, f"--workdir={parts}")
    assert code == 0 and "RESTORED step" in output and "changed since then" not in output, output
    runs.assert_same_state(parts, whole)
    lines = [json.loads(line) for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert all(line["data/with_picture"] == 0.75 for line in lines)

    other = write_prepared(tmp_path / "other", {"train": sounds[:3]})
    changed = [flag.replace(str(folders[1]), str(other)) for flag in flags]
    code, output = runs.run(*changed, "--config.steps=26", f"--workdir={parts}")
    assert code == 0, output
    for change in ("config.data.sources: [", "data.recordings: 10 -> 9", "data.digest: "):
        assert f"changed since then: {change}" in output

    report = runs.start_module("xkd_jax.report", f"--workdir={parts}", "--clips=6", "--shown=1")
    code, output = runs.ended(report)
    assert code == 0, output
    page = (parts / "report/report.html").read_text()
    assert f"of the examples, 75.0% from {folders[0]}, 25.0% from {other}" in page
