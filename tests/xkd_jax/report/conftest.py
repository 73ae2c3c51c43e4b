"""A tiny saved run, its log, and media files."""

import json

import pytest

from tests.media_files import write_media
from tests.saved_runs import save_run
from xkd_jax.method.models.xkd import MODALITIES


def log_line(step: int, distillation: float = 3.0, kl: float = 2.0, **more: float) -> dict:
    """Returns a line of a log for a projector with 64 outputs (log 64 is 4.16)."""
    terms = {f"reconstruction/{m}": 1.2 - 0.005 * step for m in MODALITIES}
    terms |= {"alignment/student": 1.0, "alignment/teacher": 1.0}
    terms |= {f"distillation/{m}": distillation for m in MODALITIES}
    monitors = {"kl/audio_to_video": kl, "kl/video_to_audio": kl}
    monitors |= {f"entropy/{m}_{n}": 1.0 for m in MODALITIES for n in ("teacher", "student")}
    monitors |= {f"between_clips/{m}_{n}": 0.4 for m in MODALITIES for n in ("teacher", "student")}
    norms = {f"gradient_norm/{m}/encoder": 0.1 for m in MODALITIES}
    speed = {"speed/clips_per_second": 20.0, "speed/seconds_per_step": 0.2, "speed/data_wait": 0.0}
    return {
        "step": step,
        "epoch": 0.1 * step,
        **terms,
        "total": 1.0,
        **monitors,
        **norms,
        **speed,
    } | more


def write_log(workdir, lines) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workdir / "metrics.jsonl").write_text(text)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Returns the workdir of a tiny run with random weights and a log of ten lines."""
    workdir = tmp_path_factory.mktemp("run")
    save_run(workdir)
    write_log(workdir, [log_line(step) for step in range(10, 110, 10)])
    return workdir


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """Returns a folder of files of two classes; one is silent, one damaged, one named like HTML."""
    root = tmp_path_factory.mktemp("media")
    for label, codecs in (("drum", ("aac", "aac")), ("horn", ("aac", None))):
        (root / label).mkdir()
        for n, codec in enumerate(codecs):
            write_media(root / label / f"{n}.mp4", 1.5, audio_codec=codec)
    write_media(root / "horn" / "<b>&\"x'.mp4", 1.5)
    (root / "horn" / "damaged.mp4").write_bytes(b"no film at all")
    return root
