"""Sound from real programs: any channels, jittering timestamps, unknown lengths."""

import io
import os
import struct

import av
import numpy as np
import pytest

from input_pipeline.media import containers, packets, reader
from input_pipeline.media import sound as sounds
from tests import media_files

SAMPLE_RATE = 16000
FORM = {"frame_rate": 8, "short_side": 48, "sample_rate": SAMPLE_RATE}


def sound_of(path):
    """Reads a file's sound. Checks that it is as loud read by time as read as a whole."""
    info = reader.measure(path)
    assert info.has_audio
    recording = reader.read_recording(path, **FORM)
    assert recording.info.has_audio
    length = len(recording.waveform)
    with containers.opened(path) as container:
        _, stream = containers.streams(container)
        by_time = sounds.read(container, stream, info.sound_start, length, SAMPLE_RATE)
    assert by_time.std() == pytest.approx(recording.waveform.std(), rel=0.01)
    return recording.waveform


def write_sound(path, channels, layout, codec="pcm_s16le", rate=SAMPLE_RATE, **options):
    """Writes a file with (channels, S) float32 sound and no picture."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout, options=options)
        samples = np.ascontiguousarray(channels.T.reshape(1, -1), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def clock_among(count, place, rate=SAMPLE_RATE, seconds=2):
    """Returns (count, S) sound with a clock in channel `place` and high noise in the others."""
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, (count, seconds * rate))
    noise[place] = media_files.clock_sound(np.arange(seconds * rate) / rate)
    return noise


@pytest.mark.parametrize("layout", ["9 channels", "32 channels", "64 channels"])
def test_channels_without_names_are_averaged(tmp_path, layout):
    count = int(layout.split()[0])
    channels = clock_among(count, count - 1)
    path = write_sound(tmp_path / "a.mka", channels, layout)
    np.testing.assert_allclose(sound_of(path), channels.mean(axis=0), atol=2e-4)


def test_channels_that_ffmpeg_cannot_mix_are_averaged(tmp_path):
    channels = clock_among(2, 0)
    path = write_sound(tmp_path / "back.caf", channels, "2 channels (BL+BR)")
    with av.open(path) as container:
        assert container.streams.audio[0].layout.name == "2 channels (BL+BR)"
    np.testing.assert_allclose(sound_of(path), channels.mean(axis=0), atol=2e-4)


@pytest.mark.parametrize("count", [4, 9, 16])
def test_of_ambisonic_sound_it_is_the_omnidirectional_channel(tmp_path, count):
    path = write_sound(
        tmp_path / "a.mka",
        clock_among(count, 0, 48000),
        f"{count} channels",
        "libopus",
        48000,
        mapping_family="255",
        b=str(count * 64000),
    )
    data = bytearray(path.read_bytes())
    data[data.index(b"OpusHead") + 18] = 2  # the channel mapping family of ambisonics
    path.write_bytes(data)
    with av.open(path) as container:
        assert container.streams.audio[0].layout.name.startswith("ambisonic")
    waveform = sound_of(path)
    at = np.arange(0.1, 1.9, 0.1)
    heard = media_files.heard_times(waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, at, atol=0.01)
    assert 0.48 < np.abs(waveform).max() < 0.53


def test_more_channels_than_can_be_mixed_are_no_silence(tmp_path):
    path = wav(tmp_path / "a.wav", clock_among(65, 0).T.reshape(-1), channels=65)
    for use in (reader.measure, lambda path: reader.read_recording(path, **FORM)):
        with pytest.raises(reader.MediaError, match="corrupt"):
            use(path)


def test_a_picture_does_not_excuse_sound_that_cannot_be_mixed(tmp_path):
    """It is left out with a reason, and not kept as if it had no sound or silent sound."""
    path, layout, seconds = tmp_path / "a.mkv", "65 channels", 2
    samples = (3e4 * clock_among(65, 0, seconds=seconds)).astype(np.int16).T.reshape(1, -1)
    with av.open(path, "w") as container:
        picture = container.add_stream("mpeg4", rate=25)
        sound = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout=layout)
        picture.width = picture.height = 64
        for number in range(25 * seconds):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = number
            container.mux(picture.encode(frame))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "s16", layout)
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        container.mux([*sound.encode(frame), *sound.encode(None), *picture.encode(None)])
    for use in (reader.measure, lambda path: reader.read_recording(path, **FORM)):
        with pytest.raises(reader.MediaError, match="corrupt"):
            use(path)


def end_earlier(path, samples):
    """Makes a Vorbis file in Ogg state that it ends by some samples earlier."""
    data = path.read_bytes()
    start = data.rindex(b"OggS")  # of the last page
    page = bytearray(data[start:])
    (end,) = struct.unpack_from("<q", page, 6)
    struct.pack_into("<q", page, 6, end - samples)
    struct.pack_into("<I", page, 22, 0)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ 0x104C11DB7 * (checksum >> 31)) & 0xFFFFFFFF
    struct.pack_into("<I", page, 22, checksum)
    path.write_bytes(data[:start] + page)


@pytest.mark.parametrize("samples", [100, 1500])
def test_an_ogg_may_end_before_its_last_packet(tmp_path, samples):
    rate = 48000
    sound = np.tile(media_files.clock_sound(np.arange(2 * rate) / rate), (2, 1))
    path = write_sound(tmp_path / "a.ogg", sound, "stereo", "vorbis", rate, strict="experimental")
    whole = sound_of(path)
    end_earlier(path, samples)
    part = sound_of(path)
    assert len(part) == pytest.approx(len(whole) - samples * SAMPLE_RATE / rate, abs=1)
    inner = slice(0, len(part) - 100)
    np.testing.assert_allclose(part[inner], whole[inner], atol=1e-3)


def with_times(path, change):
    """Copies a sound file and changes its packets' (N,) times in seconds."""
    copy = path.with_name("changed" + path.suffix)
    with av.open(path) as source, av.open(copy, "w") as container:
        stream = container.add_stream_from_template(source.streams.audio[0])
        copied = [packet for packet in source.demux(audio=0) if packet.size]
        times = change(np.array([float(packet.pts * packet.time_base) for packet in copied]))
        for packet, time in zip(copied, times, strict=True):
            packet.pts = packet.dts = round(time / packet.time_base)
            packet.stream = stream
            container.mux(packet)
    return copy


def opus(path, seconds=6.0):
    """Writes the sound of a clock in packets of 20 ms."""
    return media_files.write_media(
        path, seconds, video_codec=None, audio_codec="libopus", sample_rate=48000
    )


@pytest.mark.parametrize("wavering", [0.01, 0.015, 0.03])
def test_wavering_times_do_not_chop_the_sound(tmp_path, wavering):
    rng = np.random.default_rng(0)
    plain = opus(tmp_path / "a.mkv")
    wavers = with_times(
        plain, lambda times: np.sort(0.1 + times + rng.uniform(-wavering, wavering, len(times)))
    )
    expected, found = sound_of(plain), sound_of(wavers)
    inner = slice(8000, len(expected) - 8000)
    # The file starts with its first packet, whose time jitters as well.
    apart = [
        np.abs(np.roll(found, shift)[inner] - expected[inner]).max()
        for shift in range(-round(2 * wavering * SAMPLE_RATE), round(2 * wavering * SAMPLE_RATE))
    ]
    assert min(apart) < 1e-3


def test_a_clock_that_is_slow_keeps_in_step(tmp_path):
    slower = 1.005
    path = with_times(opus(tmp_path / "a.mkv", 12.0), lambda times: times * slower)
    at = np.arange(0.5, 11.5, 0.1) * slower
    heard = media_files.heard_times(sound_of(path), SAMPLE_RATE, at)
    apart = np.abs(heard * slower - at)
    # A pitch is measured over 50 ms, which may include a step.
    assert np.quantile(apart, 0.8) < 0.012


@pytest.mark.parametrize("gap", [0.03, 0.06, 0.2])
def test_a_short_gap_is_where_it_is(tmp_path, gap):
    path = media_files.write_media(
        tmp_path / "a.mkv", audio_codec="pcm_s16le", sound=((0.0, 2.0), (2.0 + gap, 5.0))
    )
    waveform = sound_of(path)
    at = np.concatenate([np.arange(0.2, 1.95, 0.05), np.arange(2.05 + gap, 4.8, 0.05)])
    heard = media_files.heard_times(waveform, SAMPLE_RATE, at)
    np.testing.assert_allclose(heard, at, atol=0.004)
    first, end = round(2.002 * SAMPLE_RATE), round((1.998 + gap) * SAMPLE_RATE)
    assert not waveform[first:end].any()


def wav(path, samples, *, length=None, byte_rate=None, rate=SAMPLE_RATE, channels=1, before=b""):
    """Writes a WAV file of 16-bit samples byte by byte."""
    data = (samples * 32767).astype("<i2").tobytes()
    width = 2 * channels
    byte_rate = rate * width if byte_rate is None else byte_rate
    form = struct.pack("<HHIIHH", 1, channels, rate, byte_rate, width, 16)
    length = len(data) if length is None else length
    chunks = b"fmt " + struct.pack("<I", 16) + form + before + b"data" + struct.pack("<I", length)
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + chunks + data)
    return path


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFDB, 0x80000000])
def test_a_wav_from_a_pipe_is_there_to_its_last_sample(tmp_path, length):
    samples = media_files.clock_sound(np.arange(3 * SAMPLE_RATE + 77) / SAMPLE_RATE)
    waveform = sound_of(wav(tmp_path / "a.wav", samples, length=length))
    np.testing.assert_allclose(waveform, samples, atol=1e-4)


@pytest.mark.parametrize("byte_rate", [0, 1, 16000, 192000])
def test_a_nominal_byte_rate_does_not_matter(tmp_path, byte_rate):
    samples = media_files.clock_sound(np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE)
    path = wav(tmp_path / "a.wav", samples, byte_rate=byte_rate)
    np.testing.assert_allclose(sound_of(path), samples, atol=1e-4)
    path.write_bytes(path.read_bytes()[:50000])
    with pytest.raises(reader.MediaError, match="truncated"):
        reader.measure(path)


def test_what_is_longer_than_any_recording_is_not_read_to_its_end(tmp_path, monkeypatch):
    path = wav(tmp_path / "a.wav", np.zeros(1000), rate=1000, length=7_200_000)
    os.truncate(path, 7_200_044)  # a hole, which takes no space on disk
    monkeypatch.setattr(reader, "_LONGEST", 60.0)  # because 12 hours take seconds
    read, add = [], packets.Span.add
    monkeypatch.setattr(packets.Span, "add", lambda *args: read.append(0) or add(*args))
    for use in (reader.measure, lambda path: reader.read_recording(path, **FORM)):
        read.clear()
        with pytest.raises(reader.MediaError, match="corrupt"):
            use(path)
        assert 0 < len(read) < 2_000


@pytest.mark.parametrize(
    ("name", "chunk"), [("a.wav", b"junk\0\0\0\0"), ("a.mp4", b"\0\0\0\x08free")]
)
def test_empty_chunks_are_not_counted_for_ever(tmp_path, monkeypatch, name, chunk):
    path = wav(tmp_path / name, np.zeros(1000), before=chunk * 200_000)
    if name == "a.mp4":
        path.write_bytes(b"\0\0\0\x08ftyp" + chunk * 200_000)

    class Counted(io.FileIO):
        reads = 0

        def read(self, *args):
            Counted.reads += 1
            return super().read(*args)

    monkeypatch.setattr(containers, "open", Counted, raising=False)
    try:
        reader.measure(path)
    except reader.MediaError as error:
        assert error.reason == "unreadable"
    assert 0 < Counted.reads <= 1 + 100_000  # the file's first bytes, and chunks
