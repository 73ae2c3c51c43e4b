"""Small media files whose every frame and every moment of sound tell their own time."""

import fractions
import pathlib
import struct

import av
import numpy as np

FIRST_PITCH, PITCH_PER_SECOND = 400.0, 500.0  # Hz of the sound at time 0, and its rise


def clock_frame(time: float, width: int = 96, height: int = 64) -> np.ndarray:
    """A frame (height, width, 3) uint8 that shows a time in milliseconds, in 4 x 4 cells."""
    bits = (round(time * 1000) >> np.arange(16)) & 1
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    cells = np.where(bits.reshape(4, 4), 235, 20).astype(np.uint8)
    return np.repeat(cells[rows][:, columns][..., None], 3, axis=2)


def seen_times(frames: np.ndarray) -> np.ndarray:
    """What `clock_frame`s (T, h, w, 3) show, in seconds."""
    height, width = frames.shape[1:3]
    rows = (np.arange(4) * 2 + 1) * height // 8
    columns = (np.arange(4) * 2 + 1) * width // 8
    bits = frames[:, rows][:, :, columns].mean(axis=-1).reshape(len(frames), 16) > 127
    return (bits << np.arange(16)).sum(axis=1) / 1000


def clock_sound(times: np.ndarray) -> np.ndarray:
    """Sound (S,) float32 whose pitch tells the time."""
    turns = FIRST_PITCH * times + PITCH_PER_SECOND * times**2 / 2
    return (0.5 * np.sin(2 * np.pi * turns)).astype(np.float32)


def heard_times(waveform: np.ndarray, rate: int, at: np.ndarray) -> np.ndarray:
    """When a `clock_sound` is heard to be, in seconds, at some seconds `at` of a waveform."""
    import scipy.signal  # a second, which processes that only write files need not wait for

    phase = np.unwrap(np.angle(scipy.signal.hilbert(waveform)))
    half = round(0.025 * rate)
    centers = np.round(np.asarray(at) * rate).astype(int)
    pitch = (phase[centers + half] - phase[centers - half]) / (2 * half) * rate / (2 * np.pi)
    return (pitch - FIRST_PITCH) / PITCH_PER_SECOND


def write_media(
    path: pathlib.Path,
    seconds: float = 5.0,
    *,
    frame_rate: int = 25,
    frame_times: np.ndarray | None = None,
    size: tuple[int, int] = (96, 64),
    video_codec: str | None = "libx264",
    pixel_format: str = "yuv420p",
    video_options: dict[str, str] | None = None,
    audio_codec: str | None = "aac",
    sample_rate: int = 44100,
    layout: str = "stereo",
    sound: tuple[tuple[float, float], ...] | None = None,
    start: float = 0.0,
) -> pathlib.Path:
    """Writes a clock to be seen and heard.

    Args:
        path: Where to; its suffix says the container.
        seconds: Length of picture and sound.
        frame_rate: Frames per second.
        frame_times: When each frame appears, in place of `seconds` and `frame_rate`.
        size: Width and height.
        video_codec: None for no picture.
        pixel_format: Of the stored frames.
        video_options: For the encoder.
        audio_codec: None for no sound.
        sample_rate: Hz.
        layout: Of the channels, which all sound the same.
        sound: Stretches of time (from, to) with sound; by default all of the time.
        start: Seconds that the file's timestamps are ahead of the clock.
    """
    if frame_times is None:
        frame_times = np.arange(round(seconds * frame_rate)) / frame_rate
    # These allow no finer unit of time than their frames.
    coarse = video_codec in ("mpeg4", "mpeg2video", "rv20") or pathlib.Path(path).suffix == ".avi"
    unit = fractions.Fraction(1, frame_rate * (1 if coarse else 40))
    with av.open(path, "w") as container:
        packets = []
        video = audio = None
        if video_codec:
            video = container.add_stream(video_codec, rate=frame_rate)
            video.width, video.height, video.pix_fmt = *size, pixel_format
            video.codec_context.gop_size = 10
            video.codec_context.time_base = unit
            fast = {"libx264": {"preset": "veryfast"}, "libvpx-vp9": {"cpu-used": "8"}}
            video.options = fast.get(video_codec, {}) | (video_options or {})
        if audio_codec:
            audio = container.add_stream(audio_codec, rate=sample_rate, layout=layout)
        if video:
            for time in frame_times:
                frame = av.VideoFrame.from_ndarray(clock_frame(time, *size), format="rgb24")
                frame.time_base = unit
                frame.pts = round(time / unit)
                packets += video.encode(frame)
            packets += video.encode(None)
        if audio:
            channels = audio.codec_context.layout.nb_channels
            for begin, end in sound or ((0.0, seconds),):
                times = begin + np.arange(round((end - begin) * sample_rate)) / sample_rate
                samples = np.repeat(clock_sound(times)[None], channels, axis=0)
                packets += _encode_sound(audio, samples, begin)
        # Interleaved as containers want it, by decoding time.
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            packet.pts += round(start / packet.time_base)
            packet.dts += round(start / packet.time_base)
            container.mux(packet)
    return path


def write_channels(
    path: pathlib.Path, channels: np.ndarray, layout: str, rate: int
) -> pathlib.Path:
    """Writes float32 sound (channels, S) without loss beside a gray picture of the same length."""
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("pcm_f32le", rate=rate, layout=layout)
        for number in range(round(channels.shape[1] / rate * 5)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, fractions.Fraction(1, 5)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = np.ascontiguousarray(channels.T.reshape(1, -1), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        container.mux([*audio.encode(frame), *audio.encode(None)])
    return path


def _encode_sound(stream: av.AudioStream, samples: np.ndarray, start: float) -> list[av.Packet]:
    """Packets of sound (channels, S) from a time on, by an encoder of their own."""
    context = stream.codec_context
    encoder = av.CodecContext.create(context.name, "w")
    encoder.sample_rate, encoder.layout = context.sample_rate, context.layout
    encoder.format, encoder.time_base = context.format, fractions.Fraction(1, context.sample_rate)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=context.layout.name)
    frame.sample_rate, frame.pts = context.sample_rate, 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    for packet in packets:
        packet.stream = stream
        packet.time_base = encoder.time_base
        packet.pts += round(start * context.sample_rate)
        packet.dts += round(start * context.sample_rate)
    return packets


def write_packed_avi(path: pathlib.Path, audio_codec: str) -> pathlib.Path:
    """Writes 5 s of a clock at 25 fps in MPEG-4 whose frames are packed as by XviD and DivX.

    For a frame in each slot of the AVI, one holds a P-frame and the B-frame that is shown before
    it, and the next one an empty frame.
    """
    plain = write_media(
        path.with_suffix(".mkv"), video_codec="mpeg4", video_options={"bf": "1", "b_strategy": "0"}
    )
    with av.open(plain) as container:
        header = bytes(container.streams.video[0].codec_context.extradata)
        frames = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    # Of a B-frame, only what follows the headers; by this name players know what it is.
    header = header[: header.index(b"\0\0\1\xb2")] + b"\0\0\1\xb2DivX503b1393p"
    frames = [frame[frame.index(b"\0\0\1\xb6") :] for frame in frames]
    kinds = ["IPB"[frame[4] >> 6] for frame in frames]
    slots = []
    for kind, following, frame, next_frame in zip(
        kinds, [*kinds[1:], ""], frames, [*frames[1:], b""], strict=True
    ):
        if kind == "B":
            continue
        packed = following == "B"
        slots.append((header if kind == "I" else b"") + frame + (next_frame if packed else b""))
        if packed:
            slots.append(_not_coded(frame))
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio = container.add_stream(audio_codec, rate=44100, layout="stereo")
        samples = np.repeat(clock_sound(np.arange(5 * 44100) / 44100)[None], 2, axis=0)
        packets = _encode_sound(audio, samples, 0.0)
        for number, content in enumerate(slots):
            packet = av.Packet(content)
            packet.stream, packet.time_base = video, fractions.Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = content.startswith(header)
            packets.append(packet)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        container.mux(packets)
    return path


def _not_coded(frame: bytes) -> bytes:
    """A P-frame of MPEG-4 at 25 fps that says only that nothing changes at a frame's time."""
    bits = "".join(f"{byte:08b}" for byte in frame[4:12])
    # Its kind, a 1 for each second gone by, 0, a mark, 5 bits of time, a mark; then "coded".
    end = bits.index("0", 2) + 1 + 1 + 5 + 1
    bits = "01" + bits[2:end] + "00"
    bits += "1" * (-len(bits) % 8)
    return frame[:4] + int(bits, 2).to_bytes(len(bits) // 8, "big")


def rotate(path: pathlib.Path, quarters: int) -> None:
    """Marks an MP4 as to be shown turned by quarters clockwise, as phones do."""
    matrices = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}
    a, b, c, d = (value << 16 for value in matrices[quarters])
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4  # the first track is the picture
    matrix = header + (52 if data[header] else 40)
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def cut_start(path: pathlib.Path, seconds: float) -> None:
    """Makes the edit lists of an MP4 leave out its first seconds, as phones' trimming does."""
    data = bytearray(path.read_bytes())
    position = data.index(b"mvhd") + 4
    (movie_unit,) = struct.unpack_from(">I", data, position + 12)
    while (found := data.find(b"elst", position)) >= 0:
        position = data.index(b"mdhd", found) + 4
        (unit,) = struct.unpack_from(">I", data, position + 12)
        length, begin = struct.unpack_from(">Ii", data, found + 12)
        length, begin = length - round(seconds * movie_unit), begin + round(seconds * unit)
        struct.pack_into(">Ii", data, found + 12, length, begin)
    path.write_bytes(data)
