"""Command that shows prepared data: the report as a table, and a picture of some clips.

    python -m input_pipeline.inspect --data=DIR --output=clips.png --clips=6
    python -m input_pipeline.inspect --data=DIR --verify

For each clip, the picture shows frames and the log-mel of the sound, and below them the views that
training makes of it: the global and local crops and the log-mel of a local window. It does not show
that training also flips, colors, grays and blurs the crops, on the accelerator.

With --verify there is no picture. All files are read from end to end and compared with the digests
that were taken when they were written, and the first record of each shard is decoded.
"""

if __name__ == "__main__":  # before the slow imports
    from input_pipeline.programs import program

    program.start()

import io
import pathlib
import sys
import typing
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.caption import as_caption
from input_pipeline.files import atomic
from input_pipeline.prepared import verification
from input_pipeline.programs import program

if typing.TYPE_CHECKING:
    import ml_collections
    from matplotlib.figure import Figure, SubFigure

_COLUMNS = (
    ("listed", "listed"),
    ("kept", "kept"),
    ("left out", "left_out"),
    ("not read", "not_read"),
    ("picture", "video_seconds"),
    ("sound", "sound_seconds"),
    ("no picture", "without_picture"),
    ("no sound", "without_sound"),
    ("short", "shorter_than_a_clip"),
    ("size", "bytes"),
)
_EXAMPLES = 3  # recordings named for each reason
_STRIP = 8  # frames shown of a clip
_LOCAL_STRIP = 4  # frames shown of a local view
_GAP = 3  # pixels between frames
_DPI = 110
_QUIET = "0.45"  # gray of secondary text


def table(values: Mapping[str, object]) -> str:
    """Formats a report as a table.

    Args:
        values: Report, as `preparation_report.load` returns it.

    Returns:
        Several lines: the counts of each split and in total, then each reason for leaving
        recordings out with its count and some examples, then the notes.

    Raises:
        ValueError: The values are not a report.
    """
    try:
        splits = dict(values["splits"])
        rows = [["", *(title for title, _ in _COLUMNS)]]
        for name, counts in [*splits.items(), ("total", values["total"])]:
            if name == "total" and len(splits) == 1:
                continue
            rows.append([name, *(_cell(field, counts[field]) for _, field in _COLUMNS)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *_right_aligned(row, widths)]) for row in rows]
        lines.insert(1, "-" * len(lines[0]))
        finished = "" if values["complete"] else ", not finished"
        lines[:0] = [f"{values['dataset']}{finished}", ""]
        reasons = values["total"]["reasons"]
        if reasons:
            lines += ["", "left out because"]
        for reason, count in reasons.items():
            names = [item["name"] for item in values["left_out"] if item["reason"] == reason]
            more = f", and {count - _EXAMPLES} more" if count > _EXAMPLES else ""
            lines.append(f"  {count:>6}  {reason}: {', '.join(names[:_EXAMPLES])}{more}")
        lines += [f"\nnote: {note}" for note in values.get("notes", ())]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the report lacks an entry or has a wrong one: {error}") from error
    return "\n".join(lines)


def _right_aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Right-aligns all cells but the first."""
    return [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]


def _cell(field: str, value: float) -> str:
    """Formats a number for people."""
    if field.endswith("seconds"):
        return f"{value / 3600:.1f} h" if value >= 3600 else f"{value:.0f} s"
    if field == "bytes":
        return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"
    return f"{value:,}"


def contact_sheet(folder: pathlib.Path, split: str, clips: int) -> bytes:
    """Draws some clips as training sees them in the first epoch with seed 0.

    Args:
        folder: Folder of prepared data.
        split: Name of a split. Empty for "train", or for the only split.
        clips: Number of clips, taken evenly from the split.

    Returns:
        The content of a PNG file.

    Raises:
        ValueError, OSError: The data cannot be read.
    """
    # Imported here, as the table does not need TensorFlow and matplotlib, which take seconds to
    # load.
    import ml_collections
    import tensorflow as tf
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from input_pipeline import reading
    from input_pipeline.datasets import prepared
    from input_pipeline.prepared import records
    from xkd_jax.config import pretraining

    config = pretraining.get_config()
    views = config.views
    data = ml_collections.ConfigDict({"path": str(folder), "split": split})
    if (folder / "prepared.json").is_file():
        rate = records.load_recipe(folder).frame_rate
        if rate < views.video.frame_rate:  # the data may have fewer frames per second
            views.video.frame_rate = rate
    source = prepared.open_prepared(data, views, picture=False)
    chosen = np.linspace(0, len(source) - 1, min(clips, len(source))).round().astype(int)
    figure = Figure(figsize=(15, 0.9 + 3.3 * len(chosen)), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top, *bands = figure.subfigures(
        len(chosen) + 1, 1, height_ratios=[0.9, *[3.3] * len(chosen)], squeeze=False
    )[:, 0]
    top.text(0.02, 0.68, as_caption(str(folder)), fontsize=14, weight="bold", va="center")
    top.text(
        0.02,
        0.34,
        "views as they leave the input pipeline; training also flips, colors, grays and blurs the "
        "crops on the accelerator",
        fontsize=9.5,
        color=_QUIET,
        va="center",
    )
    for band, index in zip(bands, chosen, strict=True):
        try:
            _draw_clip(band, source, int(index), views)
        except tf.errors.OpError as error:
            raise reading.ClipReader(source, views).failure(index, error) from error
    file = io.BytesIO()
    with warnings.catch_warnings():  # names may have characters that the font lacks
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(file, format="png")
    return file.getvalue()


def _draw_clip(
    band: "SubFigure", source: object, index: int, config: "ml_collections.ConfigDict"
) -> None:
    """Draws one clip: frames and log-mel above, views below."""
    import tensorflow as tf

    from input_pipeline import spectrogram, views

    key = views.example_key(0, 0, index)
    position = float(views.clip_position(key))
    start = source.start_time(index, position)
    clip = source.read(index, position)
    waveform = tf.constant(clip.waveform)
    log_mel = spectrogram.log_mel(waveform, config.audio.global_frames, config.audio).numpy()
    audio_views = views.audio_views(key, waveform, config.audio)
    seconds = len(clip.waveform) / config.audio.sample_rate

    labels = ", ".join(source.class_names[label] for label in source.label_sets[index])
    notes = [as_caption(labels) or "no label", f"{start:.2f} to {start + seconds:.2f} s"]
    notes += ["shorter than the clip: repeated"] if clip.padded else []
    notes += [] if clip.has_audio else ["no sound"]
    name = as_caption(source.name(index))
    band.text(0.02, 0.955, name, fontsize=11.5, weight="bold", va="center")
    band.text(0.978, 0.955, "   ".join(notes), fontsize=10.5, color="0.3", va="center", ha="right")
    grid = band.add_gridspec(
        2, 1, left=0.02, right=0.978, top=0.83, bottom=0.09, hspace=0.42, height_ratios=(1, 1)
    )
    upper = grid[0].subgridspec(1, 2, width_ratios=(3, 1.15), wspace=0.06)
    lower = grid[1].subgridspec(1, 3, width_ratios=(1.75, 1.25, 1.15), wspace=0.08)
    shown = np.linspace(0, len(clip.frames) - 1, _STRIP).round().astype(int)
    if clip.frames.shape[1] > 1:
        times = [start + number / config.video.frame_rate for number in shown]
        _strip(band, upper[0], clip.frames[shown], "frames", [f"{time:.2f} s" for time in times])
        video_views = views.video_views(key, clip.frames, config.video)
        picked = np.linspace(0, len(clip.frames) - 1, 6).round().astype(int)
        crops = video_views["video_global"].numpy()[picked]
        _strip(band, lower[0], crops, f"global view, {config.video.global_size} pixels")
        local = video_views["video_local"][0].numpy()
        picked = np.linspace(0, len(local) - 1, _LOCAL_STRIP).round().astype(int)
        _strip(band, lower[1], local[picked], f"local view, {config.video.local_size} pixels")
    else:
        for cell in (upper[0], lower[0], lower[1]):
            axes = band.add_subplot(cell)
            axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=_QUIET)
            _bare(axes)
    # Wide enough that silence looks dark beside the zeros around a crop.
    limits = {"vmin": log_mel.min(), "vmax": max(log_mel.max(), 2.0)}
    _mel(band, upper[1], log_mel, seconds, "log-mel", limits)
    title = f"local log-mel, {config.audio.local_seconds:g} s, resized"
    _mel(band, lower[2], audio_views["audio_local"][0].numpy(), None, title, limits)


def _strip(
    figure: "Figure | SubFigure",
    cell: object,
    frames: np.ndarray,
    title: str,
    captions: Sequence[str] = (),
) -> None:
    """Draws frames (n, h, w, 3) side by side, with captions below."""
    count, height, width, _ = frames.shape
    tiled = np.full((height, count * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for number, frame in enumerate(frames):
        tiled[:, number * (width + _GAP) : number * (width + _GAP) + width] = frame
    axes = figure.add_subplot(cell)
    axes.imshow(tiled, interpolation="antialiased")
    axes.set_anchor("NW")
    axes.set_title(title, fontsize=9, color=_QUIET, loc="left", pad=4)
    for number, caption in enumerate(captions):
        middle = number * (width + _GAP) + width / 2
        axes.text(middle, height * 1.03, caption, fontsize=8, color=_QUIET, ha="center", va="top")
    _bare(axes)


def _mel(
    figure: "Figure | SubFigure",
    cell: object,
    mel: np.ndarray,
    seconds: float | None,
    title: str,
    limits: Mapping[str, float],
) -> None:
    """Draws a log-mel (F, W), low bands at the bottom."""
    axes = figure.add_subplot(cell)
    extent = (0, seconds or mel.shape[1], 0, mel.shape[0])
    axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", extent=extent, **limits)
    axes.set_title(title, fontsize=9, color=_QUIET, loc="left", pad=4)
    _bare(axes)
    if seconds:
        axes.set_xticks(range(int(seconds) + 1), [f"{t} s" for t in range(int(seconds) + 1)])
        axes.tick_params(labelsize=8, length=2, colors=_QUIET)


def _bare(axes: object) -> None:
    """Removes the ticks and the frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def main() -> None:
    """Runs the command line."""
    parser = program.Parser("input_pipeline.inspect", __doc__)
    parser.add_argument("--data", required=True, help="folder of prepared data")
    parser.add_argument("--split", default="", help="split of the clips (train, or the only one)")
    parser.add_argument("--output", default="clips.png", help="picture to write (clips.png)")
    parser.add_argument("--clips", type=int, default=6, help="clips in the picture (6; 0: none)")
    parser.add_argument("--verify", action="store_true", help="read all files and compare them "
                        "with their digests, and decode a record of each shard; exit code 1 if "
                        "that fails")  # fmt: skip
    parser.add_argument("--write", action="store_true", help="with --verify: add digests to data "
                        "of a former version, which have none")  # fmt: skip
    flags = parser.parse_args()
    folder = pathlib.Path(flags.data)
    if flags.clips < 0:
        sys.exit(f"error: --clips={flags.clips}; allowed: 0 or more")
    if not folder.is_dir():
        sys.exit(f"error: --data={flags.data} is not a folder; allowed: a folder of prepared data")
    if flags.write and not flags.verify:
        sys.exit("error: --write; allowed only with --verify")
    if flags.verify:
        with program.errors_in_one_line():
            try:
                print(verification.verify(folder, flags.write))
            except FileNotFoundError as error:
                raise ValueError(
                    f"--data={flags.data} lacks {error.filename}; allowed: prepared data"
                ) from error
        return
    try:
        print(table(verification.load_report(folder)))
    except FileNotFoundError:
        print(f"{folder} has no report.json")
    except (ValueError, OSError) as error:
        print(f"{folder} has no readable report: {program.one_line(error)}")
    if not flags.clips:
        return
    try:
        atomic.write_bytes(flags.output, contact_sheet(folder, flags.split, flags.clips))
    except (ValueError, OSError) as error:
        reason = program.one_line(error).replace("config.data.", "--")
        sys.exit(f"error: {reason.replace('--path', '--data')}")
    print(f"\n{flags.output}: some clips of {folder}")


if __name__ == "__main__":
    main()
