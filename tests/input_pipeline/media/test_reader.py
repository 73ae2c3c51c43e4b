"""Media are decoded by time; the files' frames and sounds show their own time."""

import concurrent.futures
import os
import random

import av
import numpy as np
import pytest

from input_pipeline.media import reader
from tests import media_files

FRAME_RATE, SHORT_SIDE, SAMPLE_RATE = 8, 48, 16000


def read(path, start=0.7, seconds=4.0, **kwargs):
    return reader.read_clip(path, start, seconds, FRAME_RATE, SHORT_SIDE, SAMPLE_RATE, **kwargs)


def check_clock(clip, start=0.7, frame_rate=25, sync=0.02):
    """Checks that the frames and sounds of a 4 s clip have the right times."""
    assert clip.frames.dtype == np.uint8 and clip.frames.shape[0] == 32
    assert min(clip.frames.shape[1:3]) == SHORT_SIDE
    times = start + np.arange(32) / FRAME_RATE
    # The latest frame is shown: at most one frame period old, and never one from the future.
    age = times - media_files.seen_times(clip.frames)
    assert age.min() > -0.0025 and age.max() < 1 / frame_rate + 0.001
    if sync is not None:
        assert clip.has_audio
        assert clip.waveform.dtype == np.float32 and clip.waveform.shape == (64000,)
        at = np.arange(0.1, 3.9, 0.1)
        heard = media_files.heard_times(clip.waveform, SAMPLE_RATE, at)
        np.testing.assert_allclose(heard, start + at, atol=sync)
        assert 0.4 < np.abs(clip.waveform[8000:-8000]).max() < 0.6


CONTAINERS = {
    "h264 aac.mp4": {},
    "h264 open gop.mp4": {"video_options": {"x264-params": "open-gop=1:keyint=10:bframes=3"}},
    "h264 no b.mov": {"video_options": {"bf": "0"}, "audio_codec": "pcm_s16le"},
    "hevc.mp4": {"video_codec": "libx265", "video_options": {"x265-params": "log-level=none"}},
    "mpeg4 mp3.mkv": {"video_codec": "mpeg4", "audio_codec": "libmp3lame"},
    "mpeg4 b.mkv": {"video_codec": "mpeg4", "video_options": {"bf": "2"}, "audio_codec": "flac"},
    "mpeg4 mp3.mov": {"video_codec": "mpeg4", "audio_codec": "libmp3lame"},
    "mpeg4.avi": {"video_codec": "mpeg4", "audio_codec": "pcm_s16le"},
    "mpeg4 b.avi": {
        "video_codec": "mpeg4",
        "video_options": {"bf": "2"},
        "audio_codec": "pcm_s16le",
    },
    "mpeg4 mp3.avi": {"video_codec": "mpeg4", "audio_codec": "libmp3lame"},
    "mpeg4 b mp3.avi": {
        "video_codec": "mpeg4",
        "video_options": {"bf": "2"},
        "audio_codec": "libmp3lame",
        "sample_rate": 22050,
        "layout": "mono",
    },
    "mpeg4 aac.avi": {"video_codec": "mpeg4", "audio_codec": "aac"},
    "mpeg4 ac3.avi": {"video_codec": "mpeg4", "audio_codec": "ac3", "sample_rate": 48000},
    "h264.avi": {"audio_codec": "pcm_s16le"},
    "h264 no b.avi": {"audio_codec": "pcm_s16le", "video_options": {"bf": "0"}},
    "h264 mp3.avi": {"audio_codec": "libmp3lame"},
    "h264 no b mp3.avi": {"audio_codec": "libmp3lame", "video_options": {"bf": "0"}},
    "mjpeg mp3.avi": {
        "video_codec": "mjpeg",
        "pixel_format": "yuvj420p",
        "audio_codec": "libmp3lame",
    },
    "hevc.mkv": {
        "video_codec": "libx265",
        "video_options": {"x265-params": "log-level=none"},
        "audio_codec": "flac",
        "sample_rate": 96000,
    },
    "mpeg2.mpg": {"video_codec": "mpeg2video", "audio_codec": "mp2"},
    "wmv.asf": {"video_codec": "wmv2", "audio_codec": "libmp3lame"},
    "vp9 opus.webm": {
        "video_codec": "libvpx-vp9",
        "audio_codec": "libopus",
        "sample_rate": 48000,
    },
    "h264.ts": {},
    "h264.flv": {},
    "mono 8 kHz.mp4": {"layout": "mono", "sample_rate": 8000},
    "surround.mp4": {"layout": "5.1", "sample_rate": 48000},
    "surround ac3.mkv": {"layout": "5.1", "audio_codec": "ac3", "sample_rate": 48000},
    "odd.mp4": {"size": (101, 75), "pixel_format": "yuv444p"},
    "odd.webm": {
        "size": (175, 131),
        "video_codec": "libvpx-vp9",
        "audio_codec": "libopus",
        "sample_rate": 48000,
        "layout": "mono",
    },
    "late clock.mp4": {"start": 3.0},
    "late clock.mkv": {"start": 3.0},
    "late clock.ts": {"start": 30000.0},
    "upright.mp4": {"size": (64, 96)},
    "ünïcode 動画 ✓.mp4": {},
    "60 fps.mp4": {"frame_rate": 60},
    "5 fps.mp4": {"frame_rate": 5},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_shows_and_sounds_what_a_player_would(tmp_path, name):
    form = CONTAINERS[name]
    codecs = form.get("video_codec", "libx264"), form.get("audio_codec", "aac")
    for codec in codecs:
        if codec not in av.codecs_available:
            pytest.skip(f"this build of FFmpeg does not encode {codec}")
    path = media_files.write_media(tmp_path / name, **form)
    info = reader.measure(path)
    assert info.duration == pytest.approx(5.0, abs=0.003)
    assert info.sound_duration == pytest.approx(5.0, abs=0.08)
    for start in (0.0, 0.7, 1.0):
        check_clock(read(path, start, info=info), start, form.get("frame_rate", 25))


@pytest.mark.parametrize("audio_codec", ["pcm_s16le", "libmp3lame"])
def test_packed_frames_of_avi(tmp_path, audio_codec):
    path = media_files.write_packed_avi(tmp_path / "a.avi", audio_codec)
    assert reader.measure(path).duration == pytest.approx(5.0, abs=0.003)
    for start in (0.0, 0.7, 1.0):
        check_clock(read(path, start), start)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((160, 64), (48, 120)),
        ((64, 160), (120, 48)),
        ((175, 131), (48, 64)),
        ((1080, 1920), (85, 48)),
        ((2, 2), (48, 48)),  # enlarged, because the views need that size
    ],
)
def test_size_keeps_the_aspect(tmp_path, size, shape):
    path = media_files.write_media(
        tmp_path / "a.mp4", 0.4, size=size, pixel_format="yuv444p", audio_codec=None
    )
    frames = read(path).frames
    assert frames.shape == (32, *shape, 3)
    if min(size) > 16:
        age = np.arange(4) / FRAME_RATE - media_files.seen_times(frames[:4])
        assert age.min() > -0.0025 and age.max() < 0.041


def test_a_picture_as_no_camera_takes_it_is_damage(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 0.2, size=(2048, 16), audio_codec=None)
    with pytest.raises(reader.MediaError, match="corrupt"):
        reader.measure(path)
    with pytest.raises(reader.MediaError, match="corrupt"):
        reader.read_recording(path, frame_rate=8.0, short_side=48, sample_rate=16000)


def test_colors_and_their_order(tmp_path):
    path = tmp_path / "red.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[:, :32] = (200, 40, 90)
        pixels[:, 32:] = (255, 255, 255)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    frames = read(path).frames
    np.testing.assert_allclose(frames[0, 24, 8].astype(int), (200, 40, 90), atol=6)
    np.testing.assert_allclose(frames[0, 24, 40].astype(int), (255, 255, 255), atol=4)


def test_shrinking_averages(tmp_path):
    path = tmp_path / "stripes.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "1"})
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv444p"
        pixels = np.zeros((256, 256, 3), np.uint8)
        pixels[:, ::2] = 200
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    frame = read(path).frames[0].astype(int)
    assert abs(frame.mean() - 100) < 4 and frame.std() < 12


def test_variable_frame_rate(tmp_path):
    gaps = np.random.default_rng(0).choice([0.02, 0.04, 0.1, 0.4], 60)
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    path = media_files.write_media(tmp_path / "a.mp4", frame_times=times, seconds=times[-1])
    for start in (0.0, 1.3, 3.0):
        wanted = start + np.arange(32) / FRAME_RATE
        latest = times[np.searchsorted(times, wanted + 0.002, side="right") - 1]
        seen = media_files.seen_times(read(path, start).frames)
        np.testing.assert_allclose(seen, latest, atol=0.001)


@pytest.mark.parametrize("quarters", range(4))
def test_rotated_video_is_upright(tmp_path, quarters):
    path = media_files.write_media(tmp_path / "a.mp4")
    stored = read(path).frames
    media_files.rotate(path, quarters)
    upright = read(path).frames
    assert upright.flags.c_contiguous
    np.testing.assert_array_equal(upright, np.rot90(stored, -quarters, axes=(1, 2)))


def test_sound_that_starts_late_and_ends_early_stays_in_place(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", sound=((1.5, 3.5),))
    clip = read(path, 0.5)
    check_clock(clip, 0.5, sync=None)
    at = np.arange(1.1, 2.9, 0.1)
    heard = media_files.heard_times(clip.waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, 0.5 + at, atol=0.005)
    assert not clip.waveform[: round(0.97 * SAMPLE_RATE)].any()
    assert not clip.waveform[round(3.05 * SAMPLE_RATE) :].any()


def test_gaps_in_the_sound_are_silence(tmp_path):
    path = media_files.write_media(
        tmp_path / "a.mkv", audio_codec="pcm_s16le", sound=((0.0, 1.5), (3.0, 5.0))
    )
    clip = read(path, 0.5)
    at = np.array([0.2, 0.5, 0.9, 2.6, 3.0, 3.5, 3.9])
    heard = media_files.heard_times(clip.waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, 0.5 + at, atol=0.005)
    assert not clip.waveform[round(1.02 * SAMPLE_RATE) : round(2.48 * SAMPLE_RATE)].any()


def test_what_edit_lists_leave_out_is_neither_shown_nor_heard(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 6.0)
    media_files.cut_start(path, 1.0)
    assert reader.measure(path).duration == pytest.approx(5.0, abs=0.003)
    clip = read(path, 0.5)
    times = 1.5 + np.arange(32) / FRAME_RATE
    age = times - media_files.seen_times(clip.frames)
    assert age.min() > -0.0025 and age.max() < 0.041
    at = np.arange(0.1, 3.9, 0.1)
    heard = media_files.heard_times(clip.waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, 1.5 + at, atol=0.005)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_picture_that_starts_late_is_where_time_starts(tmp_path, name):
    times = 0.6 + np.arange(110) / 25
    path = media_files.write_media(tmp_path / name, frame_times=times)
    clip = read(path, 0.2)
    age = 0.8 + np.arange(32) / FRAME_RATE - media_files.seen_times(clip.frames)
    assert age.min() > -0.0025 and age.max() < 0.041
    at = np.arange(0.1, 3.9, 0.1)
    heard = media_files.heard_times(clip.waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, 0.8 + at, atol=0.005)


# Weight of each channel. In 5.1, these are left and right 1, center 2 * 0.707 and surrounds 0.707,
# divided by their sum.
MIXES = {
    "mono": {"FC": 1.0},
    "stereo": {"FL": 0.5, "FR": 0.5},
    "5.1": {"FL": 0.2071, "FR": 0.2071, "FC": 0.2929, "LFE": 0.0, "SL": 0.1464, "SR": 0.1464},
}


@pytest.mark.parametrize("layout", MIXES)
@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_mixing_to_mono_and_resampling_keep_pitch_and_level(tmp_path, layout, rate):
    weights = np.array(list(MIXES[layout].values()))
    pitches = 500 + 250 * np.arange(len(weights))
    times = np.arange(rate) / rate
    tones = 0.8 * np.sin(2 * np.pi * pitches[:, None] * times)
    path = media_files.write_channels(tmp_path / "a.mkv", tones, layout, rate)
    waveform = read(path, 0.0, seconds=1.0).waveform
    spectrum = np.abs(np.fft.rfft(waveform[4000:12000])) / 4000
    found = spectrum[pitches // 2]
    np.testing.assert_allclose(found, 0.8 * weights, atol=0.004)
    assert np.delete(spectrum, pitches // 2).max() < 0.01


def test_no_sound_is_silence_and_a_flag(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", audio_codec=None)
    clip = read(path)
    assert not clip.has_audio and not clip.waveform.any() and clip.waveform.shape == (64000,)
    check_clock(clip, sync=None)
    assert reader.measure(path).sound_duration == 0


def test_short_files_repeat_their_time(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 1.0)
    clip = read(path, 3.0)
    assert clip.padded and not read(path, 0.0, seconds=1.0).padded
    age = np.arange(32) / FRAME_RATE % 1.0 - media_files.seen_times(clip.frames)
    assert age.min() > -0.002 and age.max() < 0.041
    at = np.concatenate([turn + np.arange(0.1, 0.95, 0.1) for turn in range(4)])
    heard = media_files.heard_times(clip.waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, at % 1.0, atol=0.02)


def test_one_frame(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", frame_times=[0.0], audio_codec=None)
    clip = read(path)
    assert clip.padded and clip.frames.shape == (32, 48, 72, 3)
    np.testing.assert_array_equal(clip.frames, clip.frames[:1].repeat(32, axis=0))


def test_a_still_lasts_as_long_as_its_sound(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", frame_times=[0.0])
    clip = read(path, 0.5)
    assert not clip.padded
    at = np.arange(0.1, 3.9, 0.2)
    heard = media_files.heard_times(clip.waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, 0.5 + at, atol=0.005)


def test_starts_are_kept_within_the_file(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4")
    check_clock(read(path, 99.0), 1.0)
    check_clock(read(path, -1.0), 0.0)


@pytest.mark.parametrize(
    "name",
    [
        "a b%20c.mp4",
        "-i %03d 'q' \"d\" $HOME.mp4",
        "concat:a|b.mp4",
        "日本 e\u0301 é 🎬.mp4",
        os.fsdecode(b"Latin-1 caf\xe9.mp4"),
    ],
)
def test_names_of_any_characters(tmp_path, name):
    media_files.write_media(tmp_path / "plain.mp4", 0.2, audio_codec=None).rename(tmp_path / name)
    clip = read(tmp_path / name, 0.0)
    assert media_files.seen_times(clip.frames[:2]).tolist() == [0.0, 0.12]


def test_reading_is_deterministic_in_any_number_of_threads(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4")
    starts = [0.1 * number for number in range(8)] * 2
    alone = [read(path, start) for start in starts]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda start: read(path, start), starts))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.waveform, other.waveform)


def test_files_are_closed(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4")
    broken = tmp_path / "b.mp4"
    broken.write_bytes(path.read_bytes()[:3000])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read(path)
        with pytest.raises(reader.MediaError):
            reader.measure(broken)
    assert len(os.listdir("/proc/self/fd")) <= before


def broken_files(folder):
    """Makes files of every unusable kind; returns the expected reason by name."""
    good = media_files.write_media(folder / "good.mp4", 3.0)
    data = good.read_bytes()
    fragmented = media_files.write_media(folder / "good.mkv", 3.0).read_bytes()
    damaged = bytearray(data)
    media_start = data.index(b"mdat") + 8
    length = data.index(b"moov") - media_start
    damaged[media_start : media_start + length - 8] = random.Random(0).randbytes(length - 8)
    files = {
        "empty.mp4": (b"", "empty file"),
        "text.mp4": (b"This is not a video.\n" * 100, "unreadable"),
        "noise.avi": (random.Random(1).randbytes(5000), "unreadable"),
        "half.mp4": (data[: len(data) // 2], "truncated"),
        "half.mkv": (fragmented[: len(fragmented) // 2], "truncated"),
        "damaged.mp4": (bytes(damaged), "corrupt"),
        "list.m3u8.mp4": (b"#EXTM3U\n#EXTINF:3,\ngood.mp4\n#EXT-X-ENDLIST\n", "unreadable"),
        "script.mp4": (b"ffconcat version 1.0\nfile good.mp4\n", "unreadable"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    reasons = {name: reason for name, (_, reason) in files.items()}
    media_files.write_media(folder / "sound.mp4", 3.0, video_codec=None)
    return reasons | {"sound.mp4": "no picture"}


def test_unusable_files_get_a_reason(tmp_path, capfd):
    for name, reason in broken_files(tmp_path).items():
        # A file without frames can still be used for its sound.
        for use in (reader.measure, read) if reason != "no picture" else (read,):
            with pytest.raises(reader.MediaError) as caught:
                use(tmp_path / name)
            assert caught.value.reason == reason, name
            assert reason in reader.REASONS
            assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(reader.MediaError, match="cannot be accessed"):
        reader.measure(tmp_path / "missing.mp4")
    assert capfd.readouterr().err == ""
