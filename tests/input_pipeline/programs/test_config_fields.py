"""Names of nested fields, in a `ConfigDict` and in what JSON gives of one."""

import ml_collections
import pytest

from input_pipeline.programs import config_fields

PLAIN = {"model": {"video": {"patch": [4, 16, 16]}}, "seed": 0}
CONFIGS = pytest.mark.parametrize("config", [PLAIN, ml_collections.ConfigDict(PLAIN)])


@CONFIGS
def test_all_fields_by_name(config):
    fields = config_fields.fields(config)
    assert list(fields.items()) == [("model.video.patch", [4, 16, 16]), ("seed", 0)]
    assert {name: config_fields.value_of(config, name) for name in fields} == fields


@CONFIGS
def test_which_fields_there_are(config):
    assert config_fields.has(config, "model.video") and config_fields.has(config, "seed")
    for name in ("model.audio", "seed.x", "model.video.patch.0", ""):
        assert not config_fields.has(config, name)
        with pytest.raises(KeyError, match=repr(name)):
            config_fields.value_of(config, name)
