"""Containers in common use: every extension, additional tracks, and concatenated files."""

import fractions
import os
import pathlib
import resource
import struct

import av
import numpy as np
import pytest

from input_pipeline.datasets import source_files
from input_pipeline.files import limited_file
from input_pipeline.media import reader
from tests import media_files

FORM = {"frame_rate": 8, "short_side": 48, "sample_rate": 16000}
USES = (reader.measure, lambda path: reader.read_recording(path, **FORM).info)

MPEG2 = {"video_codec": "mpeg2video", "audio_codec": "mp2"}
MPEG4 = {"video_codec": "mpeg4", "audio_codec": "libmp3lame"}
H264 = {"video_codec": "libx264", "audio_codec": "aac"}
VP9 = {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "sample_rate": 48000}
WMV = {"video_codec": "wmv2", "audio_codec": "libmp3lame"}
REAL = {"video_codec": "rv20", "audio_codec": "ac3", "size": (176, 144)}
PCM = {"video_codec": None, "audio_codec": "pcm_s16le"}

# How to write a file of each extension. If there are two names, FFmpeg knows the first.
EXTENSIONS = {
    **dict.fromkeys(("3g2", "3gp", "f4v", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mts"), H264),
    **dict.fromkeys(("ts", "mov qt", "nut"), H264),
    **dict.fromkeys(("avi", "avi divx"), MPEG4),
    **dict.fromkeys(("mpeg", "mpg", "mpg mpe", "vob"), MPEG2),
    **dict.fromkeys(("asf", "wmv"), WMV),
    **dict.fromkeys(("rm", "rm rmvb"), REAL),
    **dict.fromkeys(("ogv", "ogv ogm"), VP9 | {"video_codec": "libvpx"}),
    "webm": VP9,
    "dv": {
        "video_codec": "dvvideo",
        "audio_codec": "pcm_s16le",
        "sample_rate": 48000,
        "size": (720, 576),
    },
    "gif": {"video_codec": "gif", "pixel_format": "rgb8", "audio_codec": None},
    "mxf": MPEG2 | {"audio_codec": "pcm_s16le", "sample_rate": 48000},
    "wtv": MPEG2,
    **dict.fromkeys(("aif", "aiff", "au", "caf"), PCM | {"audio_codec": "pcm_s16be"}),
    "wav": PCM,
    **dict.fromkeys(("aac", "m4a"), PCM | {"audio_codec": "aac"}),
    **dict.fromkeys(("ac3", "mka"), PCM | {"audio_codec": "ac3", "sample_rate": 48000}),
    "flac": PCM | {"audio_codec": "flac"},
    "oga": PCM | {"audio_codec": "flac"},
    **dict.fromkeys(("ogg", "opus", "webm weba"), VP9 | {"video_codec": None}),
    "mp2": PCM | {"audio_codec": "mp2"},
    "mp3": PCM | {"audio_codec": "libmp3lame"},
    "wma": PCM | {"audio_codec": "libmp3lame"},
}


def write_amr(path, seconds):
    """Writes AMR frames of 20 ms at 12.2 kbit/s with all bits zero."""
    path.write_bytes(b"#!AMR\n" + (b"\x3c" + bytes(31)) * round(seconds * 50))
    return path


def test_every_listed_extension_is_tried():
    tried = {f".{name.split()[-1]}" for name in EXTENSIONS} | {".amr"}
    assert tried == source_files.VIDEO_EXTENSIONS | source_files.SOUND_EXTENSIONS


@pytest.mark.parametrize("name", [*EXTENSIONS, "amr"])
def test_a_file_of_every_listed_extension_opens(tmp_path, name):
    known, extension = name.split()[0], name.split()[-1]
    if extension == "amr":
        path = write_amr(tmp_path / "a.amr", 1.0)
    else:
        form = EXTENSIONS[name]
        for codec in filter(None, (form["video_codec"], form["audio_codec"])):
            if codec not in av.codecs_available:
                pytest.skip(f"this build of FFmpeg does not encode {codec}")
        path = media_files.write_media(tmp_path / f"a.{known}", 1.0, **form)
        path = path.rename(tmp_path / f"a.{extension}")
    for use in USES:
        info = use(path)
        assert info.duration == pytest.approx(1.0, abs=0.1)
        assert info.has_picture == (f".{extension}" in source_files.VIDEO_EXTENSIONS)
        assert info.has_audio == (extension != "gif")


def beside(path, plain, kind, seconds):
    """Copies a file and adds subtitles or a second sound track of `seconds` seconds."""
    with av.open(plain) as source, av.open(path, "w") as container:
        streams = {s.index: container.add_stream_from_template(s) for s in source.streams}
        copied = []
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                copied.append(packet)
        if kind == "sound":
            codec, rate = ("libopus", 48000) if path.suffix == ".webm" else ("flac", 8000)
            other = container.add_stream(codec, rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, round(seconds * rate)), np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = rate, 0
            copied += [*other.encode(frame), *other.encode(None)]
        else:
            other = container.add_stream("ass")
            unit = fractions.Fraction(1, 1000)
            for begin in np.arange(0.0, seconds, 2.0):
                packet = av.Packet(b"said")
                packet.stream, packet.time_base = other, unit
                packet.pts = packet.dts = round(begin * 1000)
                packet.duration = round(min(2.0, seconds - begin) * 1000)
                copied.append(packet)
        copied.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in copied:
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "form", "kind"),
    [
        ("mkv", {}, "sound"),
        ("mkv", {}, "subtitles"),
        ("webm", VP9, "sound"),
        ("mkv mka", {"video_codec": None}, "subtitles"),
        ("mp4", {}, "sound"),
    ],
)
def test_another_track_may_outlast_those_that_are_used(tmp_path, name, form, kind):
    plain = tmp_path / ("plain.webm" if name == "webm" else "plain.mp4")
    media_files.write_media(plain, 3.0, **form)
    known, extension = name.split()[0], name.split()[-1]
    path = beside(tmp_path / f"known.{known}", plain, kind, 20.0)
    path = path.rename(tmp_path / f"a.{extension}")
    for use in USES:
        assert use(path).duration == pytest.approx(use(plain).duration, abs=0.05)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    for use in USES:
        with pytest.raises(reader.MediaError, match="truncated"):
            use(path)


def test_a_track_that_nothing_decodes_does_no_harm(tmp_path):
    plain = media_files.write_media(tmp_path / "plain.mp4", 2.0, video_codec="mpeg4")
    path = beside(tmp_path / "a.avi", plain, "sound", 2.0)
    data, form = path.read_bytes(), struct.pack("<HHI", 0xF1AC, 1, 8000)
    assert data.count(form) == 1
    path.write_bytes(data.replace(form, struct.pack("<HHI", 0x9ABC, 1, 8000)))
    with av.open(path) as container:
        assert container.streams[2].codec_context is None
    for use in USES:
        assert use(path).duration == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("name", ["mp3", "wav", "mkv"])
def test_a_file_of_holes_is_not_read(tmp_path, name, monkeypatch):
    path = media_files.write_media(tmp_path / f"a.{name}", 2.0, **EXTENSIONS[name])
    for size, end in ((1 << 40, b""), (1 << 40, b"end")):
        os.truncate(path, size)
        with open(path, "ab") as file:
            file.write(end)
        with monkeypatch.context() as patch:
            patch.setattr(av, "open", None)
            for use in USES:
                with pytest.raises(reader.MediaError, match="truncated"):
                    use(path)


def test_a_file_with_some_holes_is_read(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 2.0, **EXTENSIONS["mp4"])
    os.truncate(path, 60_000_000)
    assert reader.measure(path).duration == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("name", ["mp3", "ac3", "flac", "gif"])
@pytest.mark.parametrize("filler", [b"\0", b"\x55"])
def test_padding_does_not_fill_the_memory(tmp_path, name, filler, monkeypatch):
    """FFmpeg keeps it all, as a frame may still begin in it."""
    path = media_files.write_media(tmp_path / f"a.{name}", 2.0, **EXTENSIONS[name])
    whole = path.read_bytes()
    path.write_bytes(whole + filler * (1 << 20))
    assert reader.measure(path).duration == pytest.approx(2.0, abs=0.1)
    monkeypatch.setattr(limited_file, "MOST_AHEAD", 2 << 20)
    monkeypatch.setattr(limited_file, "MOST_BETWEEN", 1 << 20)
    path.write_bytes(whole + filler * (40 << 20))
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for use in USES:
        with pytest.raises(reader.MediaError, match=r"corrupt|unreadable"):
            use(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.ts", H264),
        ("a.ts", H264 | {"audio_codec": None}),
        ("a.mpg", MPEG2),
        ("a.mpg", MPEG2 | {"video_codec": None}),
    ],
)
def test_recordings_one_after_another_whose_times_begin_anew_are_damage(tmp_path, name, form):
    path = media_files.write_media(tmp_path / name, 2.0, **form)
    for use in USES:
        assert use(path).duration == pytest.approx(2.0, abs=0.1)
    path.write_bytes(path.read_bytes() * 2)
    for use in USES:
        with pytest.raises(reader.MediaError, match="corrupt"):
            use(path)


def test_recordings_one_after_another_whose_times_go_on_are_one(tmp_path):
    parts = [
        media_files.write_media(tmp_path / f"{start}.ts", 3.0, start=start).read_bytes()
        for start in (10.0, 13.0)
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(parts))
    for use in USES:
        assert use(path).duration == pytest.approx(6.0, abs=0.1)
