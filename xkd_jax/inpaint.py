"""Masks a recording, restores it with a pretrained student, and writes a video of the result.

    python -m xkd_jax.inpaint --checkpoint=RUN --input=clip.mp4 --mask=0.8,0.7 --output=out.mp4

The output is an MP4 file with H.264 and AAC. It shows the original, masked and reconstructed frames
side by side, and below them the log-mels of the sound. It plays twice, first with the original
sound and then with the reconstructed one, whose phases come from the algorithm of Griffin and Lim;
the title marks which one plays. If the file has no sound, or the model no decoder for it, the
output plays once and silently.

--checkpoint is the workdir of a run, one of its checkpoints, or an export with --everything:
encoders alone cannot restore anything. The file is cut into clips as long as the model's view,
which are masked and restored one by one. Predicted patches get the mean and deviation of the
original patches, which the network does not predict.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import argparse
import contextlib
import fractions
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from input_pipeline.programs import program, progress
from xkd_jax.run import command_line

SECONDS = 60.0
_PANEL = 224  # approximate pixels of a frame's side in the output
_SOUND_HEIGHT = 96  # pixels of a log-mel's height
_GAP, _TITLE = 8, 28  # pixels between panels, and height of the title in pixels
_BATCH_SIZE = 4
_SAMPLE_BLOCK = 1024  # samples per audio frame of the output


class Shares(NamedTuple):
    """Shares of the patches to drop.

    Attributes:
        video: Share of the patches of video.
        audio: Share of the patches of audio.
    """

    video: float
    audio: float

    def __str__(self) -> str:
        return ",".join(f"{share:g}" for share in dict.fromkeys(self))


class Restored(NamedTuple):
    """The original, masked and reconstructed content of a file.

    Attributes:
        frames: (3, T, H, W, 3) uint8, the original, masked and reconstructed frames.
        log_mels: (3, F, S) float32, NaN where masked; None without sound.
        waveforms: (2, L) float32, the original and the reconstructed sound; None without sound.
        frame_rate: Frames per second.
        sample_rate: Samples per second.
    """

    frames: np.ndarray
    log_mels: np.ndarray | None
    waveforms: np.ndarray | None
    frame_rate: float
    sample_rate: int


def inpaint(
    checkpoint: str | os.PathLike,
    path: pathlib.Path,
    dropped: Shares,
    seconds: float = SECONDS,
    seed: int = 0,
) -> Restored:
    """Masks and restores a file, clip by clip.

    Args:
        checkpoint: Path of the weights, see the module.
        path: A media file with video.
        dropped: Shares of the patches to drop.
        seconds: Seconds of the file to restore, from its beginning; at least one clip.
        seed: Seed of the masks.

    Returns:
        The original, masked and reconstructed content.

    Raises:
        FileNotFoundError: The folder or the file does not exist.
        ValueError: The folder holds no decoder of video, the file is not usable, or all or none of
            the patches would be dropped.
    """
    from input_pipeline.media import reader
    from xkd_jax.encoders import networks, preprocessing
    from xkd_jax.method import augment
    from xkd_jax.report import reconstructions, sound

    if not path.is_file():
        raise FileNotFoundError(f"--input={path}: no such file")
    model = networks.load(checkpoint)
    if model.model is None or not model.holds("student", "video", "decoder"):
        raise ValueError(
            f"--checkpoint={checkpoint} holds encoders and no decoder of video; allowed: a run, or "
            "what xkd_jax.interop.export --everything wrote"
        )
    view = {m: model.view(m) for m in model.modalities}
    rate, samples = view["video"]["frame_rate"], model.config.views.audio.sample_rate
    length = view["video"]["frames"] / rate
    info = reader.measure(path)
    has_sound = info.has_audio and model.holds("student", "audio", "decoder")
    for m in ("video", "audio") if has_sound else ("video",):
        _check_share(dropped, int(np.prod(model.grid(m))), m)

    shown = min(info.duration, max(seconds, length))
    starts = np.arange(0, max(shown - 1e-3, 1e-3), length)
    clips = [
        reader.read_clip(path, start, length, rate, view["video"]["size"], samples, info)
        for start in progress.bar("reading", len(starts), "clip", starts)
    ]
    size = view["video"]["size"]
    video = np.stack([[preprocessing.central_square(f, size) for f in c.frames] for c in clips])
    outputs = model.reconstruct("video", video, dropped.video, _BATCH_SIZE, seed)
    rows = reconstructions.reconstruct_video(
        augment.normalize(video), outputs.predictions, outputs.dropped, model.patch("video")
    )
    # `read_clip` moves a clip back that would reach beyond the end, so the last two may overlap.
    last = round((min(starts[-1], max(info.duration - length, 0.0)) - starts[-1]) * rate)
    frames = _joined(rows, -last, round(shown * rate))
    if not has_sound:
        return Restored(frames, None, None, rate, samples)

    audio = view["audio"]
    log_mels = np.stack([preprocessing.log_mel(c.waveform, audio) for c in clips])
    outputs = model.reconstruct("audio", log_mels, dropped.audio, _BATCH_SIZE, seed)
    rows = reconstructions.reconstruct_audio(
        log_mels, outputs.predictions, outputs.dropped, model.patch("audio")
    )
    reconstructed = [
        _cut_or_pad(sound.waveforms([row], audio)[0], len(clips[0].waveform))
        for row in progress.bar("sound", len(rows[2]), "clip", rows[2])
    ]
    waves = np.stack([[c.waveform for c in clips], reconstructed])
    skipped = round(-last / rate * samples)
    waves = _joined(waves, skipped, round(len(frames[0]) / rate * samples))
    steps = rows.shape[-1]
    mels = _joined(rows.swapaxes(2, 3), round(-last / rate / length * steps), None).swapaxes(1, 2)
    return Restored(frames, mels[..., : round(shown / length * steps)], waves, rate, samples)


def _check_share(dropped: Shares, tokens: int, modality: str) -> None:
    from xkd_jax.method.models.masked_autoencoder import kept_count

    kept = kept_count(tokens, getattr(dropped, modality))
    if not 0 < kept < tokens:
        raise ValueError(
            f"--mask={dropped} leaves {kept} of {tokens} patches of "
            f"{modality} to see; allowed: between {0.5 / tokens:.2g} and {1 - 0.5 / tokens:.4g}"
        )


def _cut_or_pad(waveform: np.ndarray, length: int) -> np.ndarray:
    """Cuts a waveform (S,) or pads it with silence: a log-mel's length differs from its clip's."""
    return np.pad(waveform[:length], (0, max(length - len(waveform), 0)))


def _joined(clips: np.ndarray, skipped: int, count: int | None) -> np.ndarray:
    """Joins clips along their time.

    Args:
        clips: (R, n, T, ...), rows of n clips.
        skipped: Number of elements at the beginning of the last clip to leave out.
        count: Number of elements to keep; None keeps all.

    Returns:
        (R, count, ...).
    """
    parts = [clips[:, n] for n in range(clips.shape[1])]
    parts[-1] = parts[-1][:, max(skipped, 0) if len(parts) > 1 else 0 :]
    return np.concatenate(parts, axis=1)[:, :count]


def write(path: pathlib.Path, restored: Restored, dropped: Shares) -> None:
    """Writes the video, completely or not at all.

    Args:
        path: Path of the output; its folder must exist.
        restored: Content to show.
        dropped: Shares of the dropped patches, for the title.
    """
    import av

    rate = fractions.Fraction(restored.frame_rate).limit_denominator(1000)
    passes = ("original", "reconstructed") if restored.waveforms is not None else ("",)
    shown = dict.fromkeys(dropped if restored.waveforms is not None else dropped[:1])
    masked = f"{', '.join(f'{share:.0%}' for share in shown)} masked"
    partial = path.with_name(f".{path.name}.partial")
    with contextlib.ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        container = stack.enter_context(av.open(partial, "w", format="mp4"))
        first = _composed(restored, 0, "", masked)
        video = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        video.height, video.width = first.shape[:2]
        video.pix_fmt = "yuv420p"
        sound = None
        if restored.waveforms is not None:
            sound = container.add_stream("aac", rate=restored.sample_rate, layout="mono")
        count = restored.frames.shape[1]
        bar = progress.bar("writing", count * len(passes), "frame")
        written = 0  # samples
        for number, playing in enumerate(passes):
            for n in range(count):
                frame = av.VideoFrame.from_ndarray(_composed(restored, n, playing, masked), "rgb24")
                frame.pts, frame.time_base = number * count + n, 1 / rate
                container.mux(video.encode(frame))
                until = round((number * count + n + 1) / rate * restored.sample_rate)
                if sound is not None:
                    wave = restored.waveforms[number]
                    start = written - round(number * count / rate * restored.sample_rate)
                    block = wave[start : start + until - written]
                    block = np.pad(block, (0, until - written - len(block)))
                    _encode_sound(container, sound, block, written, restored.sample_rate)
                written = until
                bar.update()
        bar.close()
        container.mux(video.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
        container.close()
        os.replace(partial, path)


def _encode_sound(container: Any, stream: Any, samples: np.ndarray, start: int, rate: int) -> None:
    import av

    for place in range(0, len(samples), _SAMPLE_BLOCK):
        block = np.ascontiguousarray(samples[None, place : place + _SAMPLE_BLOCK], np.float32)
        frame = av.AudioFrame.from_ndarray(block.clip(-1, 1), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, start + place
        frame.time_base = fractions.Fraction(1, rate)
        container.mux(stream.encode(frame))


def _composed(restored: Restored, n: int, playing: str, masked: str) -> np.ndarray:
    """Draws frame n of the output, (H, W, 3) uint8, with even height and width."""
    size = restored.frames.shape[2]
    scale = max(1, round(_PANEL / size))
    side = scale * size
    height = _TITLE + side + (_GAP + _SOUND_HEIGHT if restored.log_mels is not None else 0)
    width = 3 * side + 2 * _GAP
    picture = np.full((height + height % 2, width + width % 2, 3), 24, np.uint8)
    titles = _titles(side, masked, playing)
    picture[:_TITLE, : titles.shape[1]] = titles
    for row in range(3):
        left = row * (side + _GAP)
        panel = restored.frames[row, n].repeat(scale, axis=0).repeat(scale, axis=1)
        picture[_TITLE : _TITLE + side, left : left + side] = panel
        if restored.log_mels is not None:
            top = _TITLE + side + _GAP
            spectrogram = _spectrogram(restored, row, n, side)
            picture[top : top + _SOUND_HEIGHT, left : left + side] = spectrogram
    return picture


def _spectrogram(restored: Restored, row: int, n: int, width: int) -> np.ndarray:
    """Draws a log-mel and marks the current time, (_SOUND_HEIGHT, width, 3) uint8."""
    from PIL import Image

    from xkd_jax.report import attention

    limits = attention.value_range(restored.log_mels[0])
    colors = attention.spectrogram(restored.log_mels[row][None], limits=limits)[0]
    resized = Image.fromarray(colors).resize((width, _SOUND_HEIGHT), Image.Resampling.NEAREST)
    pixels = np.array(resized)
    place = min(round((n + 0.5) / restored.frames.shape[1] * width), width - 1)
    pixels[:, max(place - 1, 0) : place + 1] = 255
    return pixels


def _titles(side: int, masked: str, playing: str) -> np.ndarray:
    """Draws the titles above the panels, light on dark, (_TITLE, W, 3) uint8."""
    from xkd_jax.report.reconstructions import Canvas

    canvas = Canvas(height=_TITLE, width=3 * side + 2 * _GAP)
    for n, name in enumerate(("original", masked, "reconstructed")):
        mark = "  ♪" if playing == name else ""
        canvas.write(n * (side + _GAP) + side / 2, _TITLE - 8, f"{name}{mark}", ha="center")
    return 255 - (255 - 24) * canvas.pixels().astype(int) // 255


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and runs it; reports errors in one line."""
    parser = program.Parser("xkd_jax.inpaint", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="run, or export of everything")
    add("--input", required=True, type=pathlib.Path, metavar="FILE", help="media file")
    add("--output", required=True, type=pathlib.Path, metavar="FILE.mp4", help="file to write")
    add(
        "--mask",
        type=_shares,
        default=Shares(0.8, 0.8),
        metavar="SHARE",
        help="share of dropped patches, or those of video and of audio, such as 0.8,0.7 (0.8)",
    )
    add(
        "--seconds",
        type=_seconds,
        default=SECONDS,
        metavar="S",
        help=f"seconds of the file to restore, from its beginning ({SECONDS:g})",
    )
    add("--seed", type=program.whole, default=0, metavar="N", help="seed of the masks (0)")
    flags = parser.parse_args(arguments)
    command_line.quieten_libraries()
    command_line.keep_compiled_programs()
    with program.errors_in_one_line():
        if flags.output.suffix.lower() != ".mp4":
            raise ValueError(f"--output={flags.output}; allowed: a name that ends in .mp4")
        if not flags.output.absolute().parent.is_dir():
            raise FileNotFoundError(f"--output={flags.output}: there is no such folder")
        command_line.check_output(flags.output)
        if flags.output.exists() and flags.output.samefile(flags.input):
            raise ValueError(f"--output={flags.output} is --input; allowed: another file")
        restored = inpaint(flags.checkpoint, flags.input, flags.mask, flags.seconds, flags.seed)
        write(flags.output, restored, flags.mask)
    length = restored.frames.shape[1] / restored.frame_rate
    sound = "twice, with each sound" if restored.waveforms is not None else "once, without sound"
    print(f"{flags.output}: {length:.4g} s of {flags.input}, {sound}")


def _shares(text: str) -> Shares:
    with contextlib.suppress(ValueError):
        shares = [float(part) for part in text.split(",")]
        if len(shares) <= 2 and all(0 < share < 1 for share in shares):
            return Shares(shares[0], shares[-1])
    raise argparse.ArgumentTypeError(
        f"{text}; allowed: between 0 and 1, such as 0.8, or two, for video and audio, as in 0.8,0.7"
    )


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}; allowed: above 0")


if __name__ == "__main__":
    main()
