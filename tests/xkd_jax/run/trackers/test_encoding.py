import io
import wave

import av
import numpy as np
import pytest
from PIL import Image

from xkd_jax.run.trackers import encoding


def smooth(frames, height, width):
    """A video of smooth colors that move, as compression likes it."""
    t, y, x = np.mgrid[:frames, :height, :width]
    phases = np.stack([x + 3 * t, y + 2 * t, x + y - t], axis=-1)
    return np.rint(127.5 + 100 * np.sin(phases / 9)).astype(np.uint8)


def test_an_animated_png_has_the_frames_bit_for_bit_and_their_time():
    frames = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(encoding.animated_png(frames, 8.0)))
    assert image.n_frames == 5
    for number, frame in enumerate(frames):
        image.seek(number)
        assert image.info["duration"] == pytest.approx(125)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frame)


def test_equal_frames_of_an_animated_png_take_their_time():
    image = Image.open(io.BytesIO(encoding.animated_png(np.zeros((4, 6, 6, 3), np.uint8), 8.0)))
    total = 0.0
    for number in range(image.n_frames):
        image.seek(number)
        total += image.info.get("duration", 500)
    assert total == pytest.approx(500)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
def test_an_mp4_has_the_frames_with_little_loss(height, width):
    frames = smooth(6, height, width)
    with av.open(io.BytesIO(encoding.mp4(frames, 7.5))) as container:
        assert container.streams.video[0].average_rate == pytest.approx(7.5)
        read = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert read.shape == (6, height + height % 2, width + width % 2, 3)
    difference = np.abs(read[:, :height, :width].astype(int) - frames)
    assert difference.mean() < 4
    assert np.abs(read[0, :height, :width].astype(int) - frames[3]).mean() > 20  # the order


def test_a_wav_has_the_samples():
    samples = np.random.default_rng(0).uniform(-1.2, 1.2, (500, 1))
    with wave.open(io.BytesIO(encoding.wav(samples, 16000))) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (16000, 1, 500)
        read = np.frombuffer(sound.readframes(500), "<i2") / 32767
    np.testing.assert_allclose(read, samples[:, 0].clip(-1, 1), atol=1 / 32767)
