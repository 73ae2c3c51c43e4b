"""Rules for the config fields that all evaluations have in common."""

from xkd_jax import config_rules
from xkd_jax.config_rules import PIXELS, SWITCH, TEXT, one_of, whole
from xkd_jax.downstream import labelled, published
from xkd_jax.interop.pretrained import NETWORKS

_PAPER = sorted({f"{n.dataset}/{n.protocol}" for n in published.numbers()})

RULES = {
    **{name: config_rules.RULES[name] for name in ("seed", "compute_dtype", "batch_size")},
    "paper": one_of("", *_PAPER),
    "checkpoint": TEXT,
    "network": one_of(*NETWORKS),
    "untrained": SWITCH,
    "frame_size": whole(0, PIXELS),
    **labelled.RULES,
}
