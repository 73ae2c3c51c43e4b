"""Conversion of log-mels to sound."""

import io
import json
import subprocess
import sys

import av
import numpy as np
import pytest

from configs import base
from xkd_jax.encoders import preprocessing
from xkd_jax.report import sound

AUDIO = {**base.get_config().views.audio, "frames": 224, "seconds": 2.0}


def tone(hz, seconds=2.0):
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(16000 * seconds)) / 16000)


def loudest(waveform):
    return np.abs(np.fft.rfft(waveform)).argmax() * 16000 / len(waveform)


def test_a_tone_comes_back_at_its_pitch_and_time():
    silent = np.concatenate([np.zeros(16000), tone(1000, 1.0)])
    [made] = sound.waveforms([preprocessing.log_mel(silent, AUDIO)], AUDIO)
    assert len(made) == pytest.approx(32000, abs=300)
    assert loudest(made[18000:30000]) == pytest.approx(1000, rel=0.05)
    assert np.abs(made[:14000]).max() < 0.1 * np.abs(made[18000:]).max()


def test_loud_and_soft_come_back_alike():
    """The sound's log-mel is close to the original one; least squares would give 0.16."""
    rng = np.random.default_rng(0)
    tones = sum(tone(180 * k) / k for k in range(1, 12))
    log_mel = preprocessing.log_mel(tones + 0.02 * rng.normal(size=len(tones)), AUDIO)
    [made] = sound.waveforms([log_mel], AUDIO)
    heard = preprocessing.log_mel(made, AUDIO)
    assert np.abs(heard - log_mel)[:, 2:-2].mean() < 0.08


def test_what_is_masked_is_silent():
    log_mel = preprocessing.log_mel(tone(1000), AUDIO)
    log_mel[:, 112:] = np.nan
    [made] = sound.waveforms([log_mel], AUDIO)
    assert np.abs(made[18000:]).max() < 0.05 * np.abs(made[:14000]).max()


def test_a_fresh_environment_compiles_nothing():
    """librosa compiles the helpers of its spectra when it imports them, which takes 15 s."""
    code = (
        "import sys\nimport numpy as np\nfrom xkd_jax.encoders import preprocessing\n"
        f"from xkd_jax.report import sound\naudio = {json.dumps(AUDIO)}\n"
        "[view] = preprocessing.audio_views(np.zeros(44100), 44100, audio, [0.5])\n"
        "[made] = sound.waveforms([view], audio)\n"
        "assert 'librosa.util.utils' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_common_volume_keeps_the_difference():
    loud, quiet = sound.leveled(0.1 * tone(500), 0.05 * tone(500))
    assert np.abs(loud).max() == pytest.approx(0.7, rel=0.01)
    assert np.abs(quiet).max() == pytest.approx(0.35, rel=0.01)
    assert np.abs(sound.leveled(np.zeros(100))[0]).max() == 0


def test_mp3_plays_the_same():
    data = sound.mp3(tone(1000).astype(np.float32), 16000)
    assert len(data) < 15_000
    with av.open(io.BytesIO(data)) as container:
        assert container.format.name == "mp3"
        played = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(played) == pytest.approx(32000, abs=3000)
    assert loudest(played[4000:30000]) == pytest.approx(1000, rel=0.02)
