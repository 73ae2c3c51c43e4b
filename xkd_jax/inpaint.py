"""Masks a clip, has a pretrained student restore it, and writes a video of it.

    python -m xkd_jax.inpaint --checkpoint=RUN --input=clip.mp4 --mask=0.8 --output=out.mp4

The output, MP4 with H.264 and AAC, shows original, masked and reconstructed side by side: frames,
and the sounds' log-mels below them. It plays twice, first with the original sound and then with the
reconstructed one, whose phases are Griffin and Lim's (the first line of the picture says which); a
file without sound, or a model without a decoder for it, plays once and silently.

--checkpoint is the workdir of a run, one of its checkpoints, or an export with --everything:
encoders alone cannot restore anything. Each stretch of the file that is as long as the model's view
is masked and restored by itself; predicted patches are given the mean and deviation of the original
ones, which the network does not predict.
"""

if __name__ == "__main__":  # before what takes long to import
    from input_pipeline import program

    program.start()

import argparse
import contextlib
import fractions
import os
import pathlib
from typing import NamedTuple

import numpy as np
import tqdm

from xkd_jax import command_line

SECONDS = 60.0
_PANEL = 224  # pixels of a frame in the output, about
_SOUND_HEIGHT = 96  # pixels of a log-mel
_GAP, _TITLE = 8, 28  # pixels between panels, and of the line above them
_BATCH_SIZE = 4
_SAMPLE_BLOCK = 1024  # samples that are handed to the encoder at a time


class Restored(NamedTuple):
    """Original, masked and reconstructed windows of a file.

    Attributes:
        frames: (3, T, H, W, 3) uint8.
        log_mels: (3, F, S) float32, NaN where masked; None without sound.
        waveforms: (2, L) float32, the original and the reconstructed sound; None likewise.
        frame_rate: Per second.
        sample_rate: Hz.
    """

    frames: np.ndarray
    log_mels: np.ndarray | None
    waveforms: np.ndarray | None
    frame_rate: float
    sample_rate: int


def inpaint(
    checkpoint: str | os.PathLike,
    path: pathlib.Path,
    ratio: float,
    seconds: float = SECONDS,
    seed: int = 0,
) -> Restored:
    """Masks and restores a file, window by window.

    Args:
        checkpoint: See the module.
        path: A media file with a picture.
        ratio: Share of the patches to drop, of picture and sound alike.
        seconds: Of the file, from its beginning, at most; one window at least.
        seed: Of the masks.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: The folder holds no decoder of video, the file is not usable, or no patch would
            be left to see or to restore.
    """
    from input_pipeline import media
    from xkd_jax import augment, preprocessing
    from xkd_jax.report import networks, reconstructions, sound

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
    info = media.probe(path)
    hears = info.has_audio and model.holds("student", "audio", "decoder")
    for m in ("video", "audio") if hears else ("video",):
        _check_ratio(ratio, int(np.prod(model.grid(m))), m)

    shown = min(info.duration, max(seconds, length))
    starts = np.arange(0, max(shown - 1e-3, 1e-3), length)
    clips = [
        media.read_clip(path, start, length, rate, view["video"]["size"], samples, info)
        for start in tqdm.tqdm(starts, desc="reading", unit="window", leave=False)
    ]
    size = view["video"]["size"]
    video = np.stack([[preprocessing.central_square(f, size) for f in c.frames] for c in clips])
    made = model.reconstruct("video", video, ratio, _BATCH_SIZE, seed)
    rows = reconstructions.reconstruct_video(
        augment.normalize(video), made.predictions, made.dropped, model.patch("video")
    )
    # A window that would reach beyond the end has been moved back: its beginning is known already.
    last = round((min(starts[-1], max(info.duration - length, 0.0)) - starts[-1]) * rate)
    frames = _joined(rows, -last, round(shown * rate))
    if not hears:
        return Restored(frames, None, None, rate, samples)

    audio = view["audio"]
    log_mels = np.stack([preprocessing.log_mel(c.waveform, audio) for c in clips])
    made = model.reconstruct("audio", log_mels, ratio, _BATCH_SIZE, seed)
    rows = reconstructions.reconstruct_audio(
        log_mels, made.predictions, made.dropped, model.patch("audio")
    )
    heard = [
        _of_length(sound.waveforms([row], audio)[0], len(clips[0].waveform))
        for row in tqdm.tqdm(rows[2], desc="sounds", unit="window", leave=False)
    ]
    waves = np.stack([[c.waveform for c in clips], heard])
    skipped = round(-last / rate * samples)
    waves = _joined(waves, skipped, round(len(frames[0]) / rate * samples))
    steps = rows.shape[-1]
    mels = _joined(rows.swapaxes(2, 3), round(-last / rate / length * steps), None).swapaxes(1, 2)
    return Restored(frames, mels[..., : round(shown / length * steps)], waves, rate, samples)


def _check_ratio(ratio: float, tokens: int, modality: str) -> None:
    from xkd_jax.models.masked_autoencoder import kept_count

    if not 0 < kept_count(tokens, ratio) < tokens:
        raise ValueError(
            f"--mask={ratio:g} leaves {kept_count(tokens, ratio)} of {tokens} patches of "
            f"{modality} to see; allowed: between {0.5 / tokens:.2g} and {1 - 0.5 / tokens:.4g}"
        )


def _of_length(waveform: np.ndarray, length: int) -> np.ndarray:
    """A sound (S,) cut, or silent at its end: log-mels do not end exactly where windows do."""
    return np.pad(waveform[:length], (0, max(length - len(waveform), 0)))


def _joined(windows: np.ndarray, skipped: int, count: int | None) -> np.ndarray:
    """Windows (R, n, T, ...) one after the other, (R, count, ...).

    Args:
        windows: Of several rows.
        skipped: Of the last window, elements at its beginning to leave out.
        count: Of elements to keep; None for all.
    """
    parts = [windows[:, n] for n in range(windows.shape[1])]
    parts[-1] = parts[-1][:, max(skipped, 0) if len(parts) > 1 else 0 :]
    return np.concatenate(parts, axis=1)[:, :count]


def write(path: pathlib.Path, restored: Restored, ratio: float) -> None:
    """Writes the video, whole or not at all.

    Args:
        path: Where to; its folder has to exist.
        restored: What to show.
        ratio: Share of what is masked, for the captions.
    """
    import av

    rate = fractions.Fraction(restored.frame_rate).limit_denominator(1000)
    passes = ("original", "reconstructed") if restored.waveforms is not None else ("",)
    partial = path.with_name(f".{path.name}.partial")
    with contextlib.ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        container = stack.enter_context(av.open(partial, "w", format="mp4"))
        first = _composed(restored, 0, "", ratio)
        video = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        video.height, video.width = first.shape[:2]
        video.pix_fmt = "yuv420p"
        sound = None
        if restored.waveforms is not None:
            sound = container.add_stream("aac", rate=restored.sample_rate, layout="mono")
        count = restored.frames.shape[1]
        progress = tqdm.tqdm(total=count * len(passes), desc="writing", unit="frame", leave=False)
        written = 0  # samples
        for number, heard in enumerate(passes):
            for n in range(count):
                frame = av.VideoFrame.from_ndarray(_composed(restored, n, heard, ratio), "rgb24")
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
                progress.update()
        progress.close()
        container.mux(video.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
        container.close()
        os.replace(partial, path)


def _encode_sound(container, stream, samples: np.ndarray, start: int, rate: int) -> None:
    import av

    for place in range(0, len(samples), _SAMPLE_BLOCK):
        block = np.ascontiguousarray(samples[None, place : place + _SAMPLE_BLOCK], np.float32)
        frame = av.AudioFrame.from_ndarray(block.clip(-1, 1), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, start + place
        frame.time_base = fractions.Fraction(1, rate)
        container.mux(stream.encode(frame))


def _composed(restored: Restored, n: int, heard: str, ratio: float) -> np.ndarray:
    """Frame n of the output, (H, W, 3) uint8, of even height and width."""
    size = restored.frames.shape[2]
    scale = max(1, round(_PANEL / size))
    side = scale * size
    height = _TITLE + side + (_GAP + _SOUND_HEIGHT if restored.log_mels is not None else 0)
    width = 3 * side + 2 * _GAP
    picture = np.full((height + height % 2, width + width % 2, 3), 24, np.uint8)
    titles = _titles(side, f"{ratio:.0%} masked", heard)
    picture[:_TITLE, : titles.shape[1]] = titles
    for row in range(3):
        left = row * (side + _GAP)
        panel = restored.frames[row, n].repeat(scale, axis=0).repeat(scale, axis=1)
        picture[_TITLE : _TITLE + side, left : left + side] = panel
        if restored.log_mels is not None:
            top = _TITLE + side + _GAP
            looks = _spectrogram(restored, row, n, side)
            picture[top : top + _SOUND_HEIGHT, left : left + side] = looks
    return picture


def _spectrogram(restored: Restored, row: int, n: int, width: int) -> np.ndarray:
    """A log-mel with the present moment marked, (_SOUND_HEIGHT, width, 3) uint8."""
    from PIL import Image

    from xkd_jax.report import attention

    limits = attention.value_range(restored.log_mels[0])
    looks = attention.spectrogram(restored.log_mels[row][None], limits=limits)[0]
    resized = Image.fromarray(looks).resize((width, _SOUND_HEIGHT), Image.Resampling.NEAREST)
    pixels = np.array(resized)
    place = min(round((n + 0.5) / restored.frames.shape[1] * width), width - 1)
    pixels[:, max(place - 1, 0) : place + 1] = 255
    return pixels


def _titles(side: int, masked: str, heard: str) -> np.ndarray:
    """The line above the panels, light on dark, (_TITLE, W, 3) uint8."""
    from xkd_jax.report.reconstructions import Canvas

    canvas = Canvas(height=_TITLE, width=3 * side + 2 * _GAP)
    for n, name in enumerate(("original", masked, "reconstructed")):
        mark = "  ♪" if heard == name else ""
        canvas.write(n * (side + _GAP) + side / 2, _TITLE - 8, f"{name}{mark}", ha="center")
    return 255 - (255 - 24) * canvas.pixels().astype(int) // 255


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, and says what is wrong in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m xkd_jax.inpaint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="a run, or an export of everything")
    add("--input", required=True, type=pathlib.Path, metavar="FILE", help="media file")
    add("--output", required=True, type=pathlib.Path, metavar="FILE.mp4", help="to write")
    add("--mask", type=_share, default=0.8, metavar="SHARE", help="of the patches (0.8)")
    add(
        "--seconds",
        type=_seconds,
        default=SECONDS,
        metavar="S",
        help=f"of the file, from its beginning, at most ({SECONDS:g})",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the masks (0)")
    flags = parser.parse_args(arguments)
    command_line.quieten_libraries()
    command_line.keep_compiled_programs()
    with command_line.errors_in_one_line():
        if flags.output.suffix.lower() != ".mp4":
            raise ValueError(f"--output={flags.output}: allowed: a name that ends in .mp4")
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


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: allowed: between 0 and 1, such as 0.8")


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: allowed: above 0")


if __name__ == "__main__":
    main()
