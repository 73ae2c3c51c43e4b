"""docs/own_domain.md: its commands are accepted, its fields exist, and its links lead somewhere."""

import re

import pytest

from tests import documented_commands, published_vits
from tests.documented_commands import DOCS
from tests.saved_runs import save_run
from xkd_jax.config.checks import RULES

PAGE = (DOCS / "own_domain.md").read_text()


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    save_run(folder / "run")
    vit = published_vits.write(folder / "vit", "mae")
    return {"VIDEOS": str(folder), "EXPORT": str(folder / "run"), "mae.safetensors": str(vit)}


@pytest.mark.parametrize("command", documented_commands.of_page(PAGE))
def test_a_command_is_accepted(command, places, tmp_path):
    said = documented_commands.check(command, places, tmp_path / "out")
    assert "weights: " in said


def test_its_fields_exist():
    table = PAGE[PAGE.index("## Settings") : PAGE.index("## What to watch")]
    fields = [
        field
        for line in table.splitlines()
        if line.startswith("| `")
        for field in re.findall(r"`([a-z_.]+)`", line.split("|")[1])
    ]
    assert len(fields) >= 10
    for field in fields:
        assert field in RULES or any(name.startswith(f"{field}.") for name in RULES), field


def test_its_links_lead_to_pages():
    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert link.startswith("https://arxiv.org/abs/") or (DOCS / link).is_file(), link
