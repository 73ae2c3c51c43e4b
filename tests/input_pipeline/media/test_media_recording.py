"""Whole files: the same content as `read_clip`, errors found while decoding, and sound alone."""

import weakref

import av
import numpy as np
import pytest

from input_pipeline.media import reader
from tests import media_files
from tests.input_pipeline.media.test_reader import broken_files

FRAME_RATE, SHORT_SIDE, SAMPLE_RATE = 8, 48, 16000
FORM = {"frame_rate": FRAME_RATE, "short_side": SHORT_SIDE, "sample_rate": SAMPLE_RATE}


def check_sound(recording, start, end, offset=0.0, atol=0.005):
    """Checks that the clock sounds from `start` to `end`, `offset` seconds ahead."""
    at = np.arange(start + 0.1, end - 0.1, 0.1)
    heard = media_files.heard_times(recording.waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, at + offset, atol=atol)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("h264.mp4", {}),
        ("h264 open gop.mp4", {"video_options": {"x264-params": "open-gop=1:keyint=10"}}),
        ("upright.mov", {"size": (64, 96)}),
        ("mpeg4.avi", {"video_codec": "mpeg4", "video_options": {"bf": "2"}}),
        ("h264 mp3.avi", {"audio_codec": "libmp3lame"}),
        ("vp9.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus"}),
        ("late clock.ts", {"start": 100.0}),
        ("surround.mkv", {"layout": "5.1", "audio_codec": "ac3"}),
        ("60 fps.mp4", {"frame_rate": 60}),
        ("5 fps.mp4", {"frame_rate": 5}),
    ],
)
def test_is_what_clips_of_the_file_are(tmp_path, name, form):
    path = media_files.write_media(tmp_path / name, sample_rate=48000, **form)
    recording = reader.read_recording(path, **FORM)
    assert recording.info == reader.measure(path)
    frames, rate = np.stack(recording.frames), form.get("frame_rate", 25)
    assert frames.dtype == np.uint8 and len(frames) == 40
    assert recording.waveform.dtype == np.float32 and recording.waveform.shape == (80000,)
    seen = media_files.seen_times(frames)
    age = np.arange(40) / FRAME_RATE - seen
    assert age.min() > -0.0025 and age.max() < 1 / rate + 0.001
    assert recording.frame_times.dtype == np.float32
    np.testing.assert_allclose(recording.frame_times, seen, atol=0.0015)
    check_sound(recording, 0.0, 5.0)
    for first in (0, 5):
        start = first / FRAME_RATE
        clip = reader.read_clip(path, start, 4.0, FRAME_RATE, SHORT_SIDE, SAMPLE_RATE)
        np.testing.assert_array_equal(clip.frames, frames[first : first + 32])
        at = np.arange(0.1, 3.9, 0.1)
        heard = media_files.heard_times(clip.waveform, SAMPLE_RATE, at)
        alike = media_files.heard_times(recording.waveform, SAMPLE_RATE, start + at)
        np.testing.assert_allclose(heard, alike, atol=0.003)


def test_variable_frame_rate(tmp_path):
    gaps = np.random.default_rng(0).choice([0.02, 0.04, 0.1, 0.4], 60)
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    path = media_files.write_media(tmp_path / "a.mp4", frame_times=times, seconds=times[-1])
    recording = reader.read_recording(path, **FORM)
    wanted = np.arange(len(recording.frames)) / FRAME_RATE
    latest = times[np.searchsorted(times, wanted + 0.002, side="right") - 1]
    np.testing.assert_allclose(recording.frame_times, latest, atol=0.001)
    seen = media_files.seen_times(np.stack(recording.frames))
    np.testing.assert_allclose(seen, latest, atol=0.001)


@pytest.mark.parametrize("quarters", range(4))
def test_rotated_video_is_upright(tmp_path, quarters):
    path = media_files.write_media(tmp_path / "a.mp4", 1.0)
    stored = np.stack(reader.read_recording(path, **FORM).frames)
    media_files.rotate(path, quarters)
    recording = reader.read_recording(path, **FORM)
    assert all(frame.flags.c_contiguous for frame in recording.frames)
    upright = np.stack(recording.frames)
    np.testing.assert_array_equal(upright, np.rot90(stored, -quarters, axes=(1, 2)))


def test_gaps_late_starts_and_early_ends_of_the_sound_are_silence(tmp_path):
    path = media_files.write_media(
        tmp_path / "a.mkv", audio_codec="pcm_s16le", sound=((0.5, 1.5), (3.0, 4.0))
    )
    recording = reader.read_recording(path, **FORM)
    check_sound(recording, 0.5, 1.5)
    check_sound(recording, 3.0, 4.0)
    for start, end in ((0.0, 0.48), (1.52, 2.98), (4.02, 5.0)):
        assert not recording.waveform[round(start * 16000) : round(end * 16000)].any()


def test_a_still_and_a_frame_without_sound(tmp_path):
    path = media_files.write_media(tmp_path / "still.mp4", 2.0, frame_times=[0.0])
    still = reader.read_recording(path, **FORM)
    assert len(still.frames) == 16 and not still.frame_times.any()
    check_sound(still, 0.0, 2.0)
    path = media_files.write_media(tmp_path / "frame.mp4", frame_times=[0.0], audio_codec=None)
    frame = reader.read_recording(path, **FORM)
    assert len(frame.frames) == 1 and not frame.info.has_audio and not frame.waveform.any()


def test_each_frame_is_encoded_once(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 2.0, frame_rate=5, audio_codec=None)
    calls = []
    recording = reader.read_recording(
        path, **FORM, encode=lambda frame: calls.append(frame) or len(calls)
    )
    assert len(calls) == 10 and recording.frames == sorted(recording.frames)
    assert set(recording.frames) == set(range(1, 11)) and len(recording.frames) == 16


def test_frames_are_handed_over_one_by_one(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 3.0)
    handed = []

    def encode(frame):
        handed.append(weakref.ref(frame))
        assert sum(reference() is not None for reference in handed) <= 2

    reader.read_recording(path, **FORM, encode=encode)
    assert len(handed) == 24


def test_what_fails_in_encoding_is_no_fault_of_the_file(tmp_path):
    path = media_files.write_media(tmp_path / "a.mp4", 0.5)

    def encode(frame):
        raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full") as caught:
        reader.read_recording(path, **FORM, encode=encode)
    assert not isinstance(caught.value, reader.MediaError)


SOUNDS = {
    "a.wav": "pcm_s16le",
    "b.wav": "pcm_f32le",
    "a.flac": "flac",
    "a.mp3": "libmp3lame",
    "a.ogg": "libopus",
    "a.m4a": "aac",
    "a.aac": "aac",
    "a.aiff": "pcm_s16be",
    "a.caf": "pcm_s16le",
    "a.webm": "libopus",
}


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_alone(tmp_path, name):
    path = media_files.write_media(
        tmp_path / name, 2.0, video_codec=None, audio_codec=SOUNDS[name], sample_rate=48000
    )
    info = reader.measure(path)
    assert info.has_audio and not info.has_picture
    assert info.duration == info.sound_duration == pytest.approx(2.0, abs=0.045)
    recording = reader.read_recording(path, **FORM)
    assert recording.frames == [] and recording.frame_times.shape == (0,)
    # Raw AAC does not store the encoder's delay.
    delay = 1024 / 48000 if name == "a.aac" else 0.0
    exact = 0.03 if name == "a.aac" else 0.006
    assert recording.info.duration == pytest.approx(2.0, abs=exact)
    assert len(recording.waveform) == round(recording.info.duration * SAMPLE_RATE)
    check_sound(recording, delay, 2.0, -delay)
    with pytest.raises(reader.MediaError, match="no picture"):
        reader.read_clip(path, 0.0, 1.0, FRAME_RATE, SHORT_SIDE, SAMPLE_RATE)


def test_music_with_a_cover_has_no_picture(tmp_path):
    path = media_files.write_media(
        tmp_path / "plain.flac", 1.0, video_codec=None, audio_codec="flac"
    )
    covered = tmp_path / "covered.mp3"
    with av.open(path) as source, av.open(covered, "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode(None)])
        for frame in source.decode(audio=0):
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    recording = reader.read_recording(covered, **FORM)
    assert not recording.info.has_picture and recording.info.has_audio


def test_unusable_files_get_the_reason_that_a_probe_gives(tmp_path):
    reasons = broken_files(tmp_path)
    assert set(reasons.values()) <= set(reader.REASONS)
    for name, reason in reasons.items():
        if reason != "no picture":
            with pytest.raises(reader.MediaError) as caught:
                reader.read_recording(tmp_path / name, **FORM)
            assert caught.value.reason == reason, name


def test_impossible_times_are_damage(tmp_path):
    path = media_files.write_media(
        tmp_path / "a.mkv", frame_times=np.array([0.0, 0.04, 50000.0]), audio_codec=None
    )
    for use in (reader.measure, lambda path: reader.read_recording(path, **FORM)):
        with pytest.raises(reader.MediaError, match="corrupt"):
            use(path)


def test_unusable_sounds_get_a_reason(tmp_path):
    good = media_files.write_media(
        tmp_path / "good.wav", 2.0, video_codec=None, audio_codec="pcm_s16le"
    )
    data = good.read_bytes()
    header = data.index(b"data") + 8
    none = bytearray(data[:header])
    none[-4:] = bytes(4)
    mp3 = media_files.write_media(
        tmp_path / "good.mp3", 2.0, video_codec=None, audio_codec="libmp3lame"
    ).read_bytes()
    files = {
        "half.wav": (data[: len(data) // 2], "truncated"),
        "none.wav": (bytes(none), "no sound"),
        "empty.wav": (b"", "empty file"),
        "text.wav": (b"hello " * 99, "unreadable"),
        "zeros.mp3": (mp3[:200] + bytes(2000), "unreadable"),
    }
    for name, (content, reason) in files.items():
        (tmp_path / name).write_bytes(content)
        for use in (reader.measure, lambda path: reader.read_recording(path, **FORM)):
            with pytest.raises(reader.MediaError) as caught:
                use(tmp_path / name)
            assert caught.value.reason == reason, name


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.wav", "a.flv"])
def test_damage_of_any_kind_is_an_error_of_the_media_or_none(tmp_path, name):
    codecs = {"a.wav": {"video_codec": None, "audio_codec": "pcm_s16le"}}.get(name, {})
    data = media_files.write_media(tmp_path / name, 1.0, **codecs).read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for number in range(12):
        damaged = bytearray(data)
        if number % 3 == 0:
            damaged = damaged[: rng.integers(len(data))]
        else:
            # Damage the headers at the beginning and at the end, or any place.
            places = rng.integers(600 if number % 3 == 1 else len(data), size=1 + 4 * number)
            for place in places:
                damaged[place * rng.choice([-1, 1])] = rng.integers(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            recording = reader.read_recording(tmp_path / name, **FORM)
            outcomes.add("read")
            assert len(recording.waveform) == round(recording.info.duration * SAMPLE_RATE)
            assert len(recording.frames) == len(recording.frame_times)
            if recording.info.has_picture:
                reader.read_clip(tmp_path / name, 0.0, 1.0, FRAME_RATE, SHORT_SIDE, SAMPLE_RATE)
        except reader.MediaError as error:
            outcomes.add(error.reason)
    # The damage is neither too small nor too large for the test to be meaningful.
    assert "read" in outcomes and len(outcomes) > 1
