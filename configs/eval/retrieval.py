"""Retrieval: sound finds the video of its recording among all of a split, and video its sound.

    python -m xkd_jax.main --config=configs/eval/retrieval.py --config.checkpoint=RUN \
        --config.data.path=DATA --workdir=OUT

Data: any videos with sound, labeled or not: the output of `python -m input_pipeline.prepare`, whose
split `test` is taken (--config.data.split=val takes another one); with
--config.data.dataset=folder, a folder of media files. The checkpoint needs projectors: a run, or an
export of everything.

Queries and candidates are the projectors' outputs, averaged over 3 clips of each recording. They
are compared by cosine, after subtraction of their mean. Scores are recall at 1, 5 and 10 and the
median rank, with those of random orders beside. --config.recordings=1000 draws as many recordings.
The paper has no such evaluation. Cost: two ViT-B take 180 GFLOP per clip, for students and again
for teachers; a clip's outputs take 130 kB on disk.
"""

from xkd_jax.config.retrieval import get_config

__all__ = ["get_config"]
