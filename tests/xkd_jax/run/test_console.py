"""What a run prints."""

import jax
import pytest

from xkd_jax.run import console


@pytest.mark.parametrize(("process", "count"), [(0, 1), (1, 0)])
def test_the_first_process_speaks_for_all(process, count, capsys, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: process)
    console.say("said")
    console.warn("told")
    assert capsys.readouterr() == (count * "said\n", count * "warning: told\n")


def test_a_warning_for_each_cause(capsys):
    once = console.Once()
    for cause, text in (("a", "first"), ("a", "again"), ("b", "other")):
        once.warn(cause, text)
    assert capsys.readouterr().err == "warning: first (said once)\nwarning: other (said once)\n"
    assert "a" in once and "c" not in once
