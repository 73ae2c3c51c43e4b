"""Video and sound as the bytes of files."""

import fractions
import io
import wave

import numpy as np
from PIL import Image


def png(image: np.ndarray) -> bytes:
    """Encodes an image, `(H, W, 3)` uint8, without loss."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(file, format="PNG")
    return file.getvalue()


def animated_png(frames: np.ndarray, frame_rate: float) -> bytes:
    """Encodes a video as a PNG file that browsers play, without loss.

    Args:
        frames: `(T, H, W, 3)` uint8.
        frame_rate: Frames per second.
    """
    first, *others = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    duration = 1000 / frame_rate  # milliseconds
    first.save(file, format="PNG", save_all=True, append_images=others, duration=duration, loop=0)
    return file.getvalue()


def mp4(frames: np.ndarray, frame_rate: float) -> bytes:
    """Encodes a video as MP4 with H.264, with little loss.

    Args:
        frames: `(T, H, W, 3)` uint8. Odd sizes are enlarged by a pixel, as the format requires.
        frame_rate: Frames per second.
    """
    # Imported here because training on prepared data needs no FFmpeg.
    import av

    _, height, width, _ = frames.shape
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    rate = fractions.Fraction(frame_rate).limit_denominator(1000)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def wav(samples: np.ndarray, sample_rate: int) -> bytes:
    """Encodes sound as WAV with 16 bits.

    Args:
        samples: `(S, C)` float in [-1, 1], of C channels.
        sample_rate: Sample rate in Hz.
    """
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(samples.shape[1])
        sound.setsampwidth(2)
        sound.setframerate(sample_rate)
        sound.writeframes(np.rint(samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()
