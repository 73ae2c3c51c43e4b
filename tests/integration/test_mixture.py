"""A pretraining on a mixture of prepared sets."""

import pytest

from tests import saved_runs
from tests.input_pipeline.prepared_files import clock_record, write_prepared
from tests.integration import runs


@pytest.mark.slow  # two runs in processes of their own
def test_a_mixture_goes_on_and_says_what_has_changed(tmp_path):
    both = [clock_record(f"{n}.mp4", 2.0 + n / 4) for n in range(6)]
    sounds = [clock_record(f"{n}.wav", 2.0 + n / 4, picture=False) for n in range(4)]
    videos, noises, other = (tmp_path / name for name in ("videos", "noises", "other"))
    write_prepared(videos, {"train": both})
    write_prepared(noises, {"train": sounds})
    write_prepared(other, {"train": sounds[:3]})

    def run(second, steps):
        flags = ["--config.data.dataset=prepared", "--config.data.require=any"]
        flags += [f"--config.data.sources={videos}", f"--config.data.sources={second}"]
        flags += ["--config.data.weights=3,1", f"--config.steps={steps}"]
        code, output = runs.run(*flags, f"--workdir={tmp_path / 'run'}")
        assert code == 0, output
        return output

    output = run(noises, 8)
    assert f"  {videos}: 75.00% of the examples, 4 passes\n" in output
    assert f"  {noises}: 25.00% of the examples, 2 passes\n" in output
    output = run(other, 9)
    for change in ("config.data.sources: [", "data.recordings: 10 -> 9", "data.digest: "):
        assert f"changed since then: {change}" in output
    lines = saved_runs.logged_lines(tmp_path / "run")
    assert all(line["data/with_picture"] == 0.75 for line in lines)
