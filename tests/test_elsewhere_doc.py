"""docs/elsewhere.md has the numbers of other methods, each with its source and a config of ours."""

import collections
import re

import pytest

from input_pipeline.datasets import readers
from tests.documented_commands import DOCS
from xkd_jax.paper import elsewhere

PAGE = (DOCS / "elsewhere.md").read_text()
CONFIGS = DOCS.parent / "configs" / "eval"
PROTOCOLS = {
    "Finetuning": "finetune",
    "One layer on frozen features": "linear",
    "Attentive probe": "attentive",
    "Retrieval": "retrieval",
}
DATASETS = {
    "AudioSet": "audioset",
    "AudioSet-2M": "audioset",
    "AudioSet-20K": "audioset_20k",
    "VGGSound": "vggsound",
    "Kinetics400": "kinetics400",
    "Something-Something": "something_something",
}


def listed():
    """Yields the numbers of the page, with their configs."""
    for title, section in re.findall(r"^## (.+)\n\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        for line in section.splitlines()[2:]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            data, config, model, pretraining, *percents, source, unlike = cells
            [(address, quoted)] = re.findall(r"^\[.+\]\((.+)\)(, quoted)?$", source)
            for modality, percent in zip(("audio", "video", "joint"), percents, strict=True):
                if percent != "-":
                    what = (DATASETS[data], PROTOCOLS[title], modality, float(percent))
                    how = (address, unlike.removeprefix("-"), bool(quoted))
                    number = elsewhere.Number(*what, model, pretraining, *how)
                    yield number, config.strip("`")


def test_the_page_has_every_number_with_its_config():
    expected = [(n, elsewhere.CONFIGS[n.protocol, n.dataset]) for n in elsewhere.NUMBERS]
    assert collections.Counter(listed()) == collections.Counter(expected)


@pytest.mark.parametrize("number", elsewhere.NUMBERS, ids=lambda n: "-".join(map(str, n[:5])))
def test_a_number_has_a_source_and_is_of_a_protocol_of_ours(number):
    assert number.source.startswith(("https://github.com/", "https://arxiv.org/abs/"))
    assert number.dataset in readers.READERS
    assert number.modality in ("audio", "video", "joint") and 0 < number.percent < 100
    config = elsewhere.CONFIGS[number.protocol, number.dataset]
    assert (CONFIGS / f"{config}.py").is_file()
    assert (number in elsewhere.find(*number[:3])) == (number.protocol != "retrieval")


def test_nothing_is_found_for_other_data():
    assert elsewhere.find("", "finetune", "video") == []
    assert elsewhere.find("vggsound", "svm", "video") == []
