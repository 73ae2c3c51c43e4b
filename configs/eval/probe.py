"""A linear SVM on the video features of a frozen encoder.

    python -m xkd_jax.main --config=configs/eval/probe.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

The other probes' configs call `get_config()` and change some fields. Unchanged, it is the paper's
linear evaluation of video: prepared data, with 25 training clips and 3 test clips per recording.
xkd_jax/config/probing.py lists every field with its default, allowed values and meaning. The
features are kept on disk: an interrupted command resumes, and the same command again, or one with
another classifier, runs no encoder.
"""

from xkd_jax.config.probing import get_config

__all__ = ["get_config"]
