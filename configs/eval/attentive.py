"""Attentive probes on the tokens of frozen encoders, on any labeled recordings.

    python -m xkd_jax.main --config=configs/eval/attentive.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: the output of `python -m input_pipeline.prepare`, of any labeled data set; with
--config.data.dataset=folder, a folder of media files, `<class>/<files>`, or `train/<class>/<files>`
with test/ or val/ beside it; with --config.data.dataset=generated, moving shapes with sound.
--config.modalities="('audio',)" probes audio, "('video','audio')" the tokens of both.

A pooler (a learned query that attends to all tokens, and an MLP) and a linear layer are trained for
20 epochs with each of five learning rates and four weight decays, the twenty heads side by side on
the same tokens. The head is chosen on the validation split, or on a tenth of the training
recordings. The grid and the epochs are those of V-JEPA 2, whose pooler has four blocks
(--config.pooler.blocks=4) where this one has one. The paper has no such evaluation. Cost: ViT-B
takes 74 GFLOP per video clip and 107 per audio clip in each epoch, and the twenty heads of one
block about as much again.
"""

from xkd_jax.config.attentive import get_config

__all__ = ["get_config"]
