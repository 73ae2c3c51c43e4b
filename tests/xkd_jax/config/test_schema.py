"""The fields of all tasks: each has one kind of value, whatever the task, and a good default."""

import itertools

import pytest

from input_pipeline import datasets
from xkd_jax.config import attentive, finetuning, pretraining, probing, retrieval, schema
from xkd_jax.config.rules import one_of, whole
from xkd_jax.config.schema import Field, Section
from xkd_jax.downstream.finetuning import rand_augment
from xkd_jax.encoders import descriptions
from xkd_jax.method.models import xkd

TASKS = {
    "pretrain": pretraining.fields(),
    "probe": probing.fields(),
    "compare": probing.comparison(),
    "finetune video": finetuning.fields("video"),
    "finetune audio": finetuning.fields("audio"),
    "finetune joint": finetuning.fields("joint"),
    "attentive": attentive.fields(),
    "retrieval": retrieval.fields(),
    "few shot": probing.few_shot(),
}


def kinds(section, prefix=""):
    """Names of all sections and fields, with the type of the field's values."""
    for name, item in vars(section).items():
        if isinstance(item, Field):
            yield f"{prefix}{name}", type(item.default)
        else:
            yield f"{prefix}{name}", Section
            yield from kinds(item, f"{prefix}{name}.")


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(TASKS, 2)))
def test_the_same_name_has_the_same_type_in_every_task(one, other):
    left, right = dict(kinds(TASKS[one])), dict(kinds(TASKS[other]))
    assert {n: left[n] for n in left.keys() & right.keys()} == {
        n: right[n] for n in left.keys() & right.keys()
    }


def test_a_section_gives_a_config_and_its_rules():
    section = Section()
    section.b = Field(3, whole(0, 5))
    section.a = Section()
    section.a.name = Field("x", one_of("x", "y"))
    assert schema.defaults(section).to_dict() == {"b": 3, "a": {"name": "x"}}
    rules = schema.rules(section)
    assert list(rules) == ["b", "a.name"]  # in the order in which they are written
    assert rules["a.name"].allowed == "'x', 'y'" and rules["a.name"].holds("y")
    section.b = section.b.with_default(4)
    assert schema.defaults(section).b == 4 and not schema.rules(section)["b"].holds(6)


@pytest.mark.parametrize("task", TASKS)
def test_the_defaults_follow_the_rules(task):
    config = schema.defaults(TASKS[task])
    for name, rule in schema.rules(TASKS[task]).items():
        value = config
        for part in name.split("."):
            value = value[part]
        assert rule.holds(value), name


def test_the_names_are_those_of_the_modules_that_give_them_a_meaning():
    """The fields are read without JAX and TensorFlow, which these modules import."""
    base = schema.rules(pretraining.fields())
    for field in ("data.dataset", "probe.dataset"):
        assert base[field].allowed == one_of(*datasets.DATASETS).allowed
    assert base["model.variant"].allowed == one_of(*xkd.VARIANTS).allowed
    assert pretraining.get_config().xkd.reconstruct == xkd.MODALITIES
    probe = schema.rules(probing.fields())
    assert probe["network"].allowed == one_of(*descriptions.NETWORKS).allowed
    magnitude = schema.rules(finetuning.fields("video"))["augmentation.rand_augment.magnitude"]
    assert magnitude.holds(rand_augment.LARGEST)
    assert not magnitude.holds(rand_augment.LARGEST + 0.01)
