"""Checks of a description of weights, which `descriptions.describe` makes.

A description is read from a file, and its values determine the sizes of networks, programs and
memory. So every value is checked before any is used, by the rules of the config it came from.
"""

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from input_pipeline.programs import config_fields
from xkd_jax.config.checks import RULES
from xkd_jax.config.rules import Rule, above, each, number
from xkd_jax.method.models.xkd import MODALITIES

# Fields of `config.views.audio` that an audio encoder's preprocessing includes.
LOG_MEL = (
    *("sample_rate", "mel_bands", "window", "hop"),
    *("max_frequency", "log_offset", "mean", "std"),
)
_VIEWS = {
    "video": {
        "frame_rate": RULES["views.video.frame_rate"],
        "frames": RULES["views.video.global_frames"],
        "size": RULES["views.video.global_size"],
        "mean": each(*3 * [number(-1000, 1000)]),
        "std": each(*3 * [above(0, 1000)]),
    },
    "audio": {
        "seconds": RULES["views.audio.local_seconds"],
        "frames": RULES["views.audio.global_frames"],
        **{name: RULES[f"views.audio.{name}"] for name in LOG_MEL},
    },
}
_ALWAYS_THERE = [f"xkd.teacher_temperature.{m}_end" for m in MODALITIES]  # in every config
_EXTENTS = {"video": ("frames", "size", "size"), "audio": ("mel_bands", "frames")}
# Limits on the waveform of a clip. An hour at 16 kHz has fewer samples. The FFT windows of 4 s have
# a five-hundredth of the bins.
_MOST_SAMPLES, _MOST_BINS = 2**26, 2**28


def check(description: Mapping[str, Any]) -> None:
    """Checks the sizes, the preprocessing and the model in a description.

    Args:
        description: Description from `descriptions.describe`, or the same read from JSON.

    Raises:
        ValueError: A field is missing or has an impossible value. The message names the field and
            what is allowed.
    """
    _get(description, "networks", Mapping)
    _get(description, "provenance.source", str)
    if _get(description, "config", object) is not None:
        _check_config(description)
    for m in _modalities(description):
        _check_encoder(description, m)
        for name, rule in _VIEWS[m].items():
            _check(description, f"preprocessing.{m}.{name}", rule)
        view = description["preprocessing"][m]
        for extent, size in zip(_EXTENTS[m], description["architecture"][m]["patch"], strict=True):
            if view[extent] % size:
                raise ValueError(
                    f"preprocessing.{m}.{extent} is {view[extent]}; allowed: multiples of the "
                    f"patch's {size}"
                )
        if m == "audio":
            _check_sound(view)
        if description["config"] is not None:
            _check_same(description, m)


def _check_config(description: Mapping[str, Any]) -> None:
    """Checks the fields of a run's config that its model is built from.

    Fields that the version that wrote the config did not have are skipped.
    """
    for field, rule in RULES.items():
        section, is_there = (
            field.partition(".")[0],
            config_fields.has(description, f"config.{field}"),
        )
        known = section in ("views", "xkd", "parallel") and is_there
        if section == "model" or known or field in _ALWAYS_THERE:
            _check(description, f"config.{field}", rule)


def _modalities(description: Mapping[str, Any]) -> Iterator[str]:
    """Returns the modalities that the description mentions."""
    networks = description["networks"]
    parts = [_get(description, f"networks.{name}", Mapping) for name in networks]
    for name, part in networks.items():
        for m in part:
            listed = _get(description, f"networks.{name}.{m}", list)
            if not all(isinstance(item, str) for item in listed):
                raise ValueError(f"networks.{name}.{m} is {reprlib.repr(listed)}; allowed: names")
    parts += [_get(description, name, Mapping) for name in ("architecture", "preprocessing")]
    return (m for m in MODALITIES if any(m in part for part in parts))


def _check_encoder(description: Mapping[str, Any], m: str) -> None:
    _check(description, f"architecture.{m}.patch", RULES[f"model.{m}.patch"])
    encoder = _get(description, f"architecture.{m}.encoder", Mapping)
    sizes = ("width", "depth", "heads")
    if unknown := set(encoder) - {*sizes}:
        raise ValueError(f"architecture.{m}.encoder has {reprlib.repr(sorted(unknown))}")
    for name in sizes:
        _check(description, f"architecture.{m}.encoder.{name}", RULES[f"model.{m}.encoder.{name}"])
    if encoder["width"] % encoder["heads"]:
        raise ValueError(
            f"architecture.{m}.encoder.heads is {encoder['heads']}; allowed: divisors of its "
            f"width, {encoder['width']}"
        )


def _check_same(description: Mapping[str, Any], m: str) -> None:
    """Checks that the config's model has the described encoder."""
    architecture, model = description["architecture"][m], description["config"]["model"][m]
    for name in ("patch", "encoder"):
        if _tuple(architecture[name]) != _tuple(model[name]):
            raise ValueError(
                f"config.model.{m}.{name} is {reprlib.repr(model[name])}; allowed: "
                f"architecture.{m}.{name}, which is {reprlib.repr(architecture[name])}"
            )


def _check_sound(view: Mapping[str, Any]) -> None:
    samples = round(view["seconds"] * view["sample_rate"])
    hops = 1 + samples // view["hop"]
    if samples > _MOST_SAMPLES or hops * view["window"] > _MOST_BINS:
        raise ValueError(
            f"preprocessing.audio.seconds is {view['seconds']:g}, which makes {samples} samples "
            f"and {hops} FFT windows of {view['window']}; allowed: at most {_MOST_SAMPLES} "
            f"samples, and {_MOST_BINS} in all windows"
        )
    if view["frames"] > hops:
        raise ValueError(
            f"preprocessing.audio.frames is {view['frames']}; allowed: at most {hops}, the number "
            f"of hops in {view['seconds']:g} s"
        )
    if 2 * view["max_frequency"] > view["sample_rate"]:
        raise ValueError(
            f"preprocessing.audio.max_frequency is {view['max_frequency']:g}; allowed: at most "
            f"half the sample_rate, {view['sample_rate']} Hz"
        )


def _check(description: Mapping[str, Any], field: str, rule: Rule) -> None:
    value = _get(description, field, object)
    if not rule.holds(_tuple(value)):
        raise ValueError(f"{field} is {reprlib.repr(value)}; allowed: {rule.allowed}")


def _tuple(value: Any) -> Any:
    """Converts a list, which JSON makes of a tuple, back to a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _get(description: Mapping[str, Any], field: str, kind: type) -> Any:
    if not config_fields.has(description, field):
        raise ValueError(f"{field} is missing")
    value = config_fields.value_of(description, field)
    if not isinstance(value, kind):
        allowed = {str: "text", list: "a list"}.get(kind, "an object of named values")
        raise ValueError(f"{field} is {reprlib.repr(value)}; allowed: {allowed}")
    return value
