"""A source that reads prepared data (see `records`) in any order and decodes with TensorFlow.

A clip starts at a stored frame, so picture and sound are in sync to a sample. For each frame of the
clip, the stored frame nearest in time is decoded, and no other. Frames keep their stored size:
`views.video.short_side` applies to media files only.
"""

import bisect
import functools
import hashlib
import math
import typing
from collections.abc import Sequence

import ml_collections
import numpy as np
import tensorflow as tf

from input_pipeline.media import picture as pictures
from input_pipeline.media.reader import Clip
from input_pipeline.prepared import manifest, records, verification
from input_pipeline.prepared.sets import PreparedSet, PreparedSets, open_sets
from input_pipeline.programs import notices, wording
from input_pipeline.programs.terminal import printable
from input_pipeline.sources import ClipTensors

if typing.TYPE_CHECKING:
    from array_record.python.array_record_data_source import ArrayRecordDataSource


class PreparedSource:
    """The records of one split, or of those of several sets, one after another.

    Args:
        prepared: The sets: names, lengths, labels and roles of the records, and properties that
            all of them share.
        stored: Serialized records of each set.
        frame_rate: Frames per second of the clips, at most that of the records.
        frames: Number of frames of a clip.
        repeats_sound: Whether a record shorter than a clip repeats its sound, as it repeats its
            picture. If not, silence follows.

    Attributes:
        labels: (N,) int64, indices into `class_names`; None unless every record has exactly one
            label.
        label_sets: N tuples of such indices.
        class_names: Names of the classes in the order of their indices; empty without labels.
        roles: (N, K) int64, role of each record in each partition. See `records.Role`.
        partitions: Names of the K partitions.
        has_video: (N,) bool, whether the record has frames.
        has_audio: (N,) bool, whether the record has sound.
        sets: Indices of the records of each set, by the name of its folder.
        failed: Empty: a record that cannot be read raises an error.
        replaced: 0: no record takes another one's place.
    """

    def __init__(
        self,
        prepared: PreparedSets,
        stored: "Sequence[ArrayRecordDataSource]",
        frame_rate: float,
        frames: int,
        repeats_sound: bool = True,
    ) -> None:
        self._stored = stored
        self._index = index = prepared.index
        self._recipe = recipe = prepared.recipe
        self._repeats_sound = repeats_sound
        self._rate = recipe.frame_rate
        # For each frame of a clip, the nearest stored frame, counted from the clip's first one.
        self._offsets = np.floor(np.arange(frames) * self._rate / frame_rate + 0.5).astype(np.int32)
        seconds = frames / frame_rate
        self._most_pixels = pictures.LARGEST_ASPECT * recipe.short_side**2  # of a frame
        self._samples = round(seconds * records.SAMPLE_RATE)
        # Stored frames that a clip covers.
        self._span = max(math.ceil(seconds * self._rate - 1e-6), int(self._offsets[-1]) + 1)
        self.label_sets = index.labels
        self.labels = None
        if all(len(labels) == 1 for labels in index.labels):
            self.labels = np.array([label for (label,) in index.labels], np.int64)
        self.class_names = recipe.class_names
        self.roles = index.roles
        self.partitions = recipe.partitions
        self.has_video, self.has_audio = prepared.has_video, prepared.has_audio
        self.sets = prepared.sets
        self._starts = [ids.start for ids in self.sets.values()]
        self.failed: dict[str, str] = {}
        self.replaced = 0

    def __len__(self) -> int:
        return len(self._index.names)

    def name(self, index: int) -> str:
        """Returns the name of a record; in a mixture, with the folder of its set."""
        name = self._index.names[index]
        return name if len(self.sets) == 1 else f"{[*self.sets][self._set_of(index)]}: {name}"

    def _set_of(self, index: int) -> int:
        """Returns which set a record is in, from 0."""
        return bisect.bisect_right(self._starts, index) - 1

    def read(self, index: int, position: float) -> Clip:
        """Reads the clip of a record at a position.

        Args:
            index: Index of the record, in [0, N).
            position: Position in [0, 1], see `decode`.

        Returns:
            The clip.
        """
        clip = self.decode(tf.constant(self.fetch(index)), tf.constant(position, tf.float32), True)
        return Clip(
            clip.frames.numpy(),
            clip.waveform.numpy(),
            bool(clip.has_audio),
            padded=bool(self._length(index) < self._span),
            has_video=bool(clip.has_video),
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the recipe, the index and three records of each set."""
        digest = hashlib.sha256(repr(self._recipe).encode())
        if not self._repeats_sound:
            digest.update(b"silence after the end")
        digest.update("\0".join(self._index.names).encode())
        for counts in (self._index.frames, self._index.samples):
            digest.update(np.asarray(counts, np.int64).tobytes())
        for ids in self.sets.values():
            for index in (0, len(ids) // 2, len(ids) - 1):
                digest.update(self.fetch(ids[index]))
        return digest.hexdigest()

    @property
    def inventory(self) -> dict[str, int | str]:
        """Number of recordings and their fingerprint."""
        return {"recordings": len(self), "digest": self.fingerprint}

    def start_time(self, index: int, position: float) -> float:
        """Returns the time in seconds at which the clip at a position starts in its record."""
        start = self._start(self._length(index), tf.constant(position, tf.float32))
        return float(start) / self._rate

    def fetch(self, index: int) -> bytes:
        """Returns a record as it is stored.

        Raises:
            ValueError: The record is damaged.
        """
        number = self._set_of(index)
        try:
            return self._stored[number][index - self._starts[number]]
        except RuntimeError as error:
            name = printable(self.name(index))
            raise ValueError(
                f"the record of {name} cannot be read ({error}); {manifest.REMEDY}"
            ) from error

    def decode(self, stored: tf.Tensor, position: tf.Tensor, picture: bool) -> ClipTensors:
        """Decodes a clip from a record.

        The R possible starts are stored frames. The clip starts at number `floor(position * R)`, so
        a uniform position makes all of them equally likely. A record shorter than the clip repeats
        from its beginning, picture and sound alike (its sound only if `repeats_sound`). Missing
        sound is silence; missing frames are black, of one pixel.

        Args:
            stored: () string, result of `fetch`.
            position: () float32, in [0, 1].
            picture: Whether to decode the frames too.

        Returns:
            The clip.
        """
        record = tf.io.parse_single_example(
            stored,
            {
                "frames": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
                "waveform": tf.io.FixedLenFeature([], tf.string, default_value=""),
            },
        )
        sound = record["waveform"]
        heard = tf.strings.length(sound) // 2
        shown = tf.size(record["frames"])
        # Sound without picture is treated as if it had frames at the data's frame rate.
        length = tf.where(shown > 0, shown, self._ticks(heard))
        period = tf.where(shown > 0, self._first_sample(length), heard)
        start = self._start(length, position)
        # Samples until the clip ends, or until a record shorter than the clip repeats.
        until = self._samples
        if self._repeats_sound:
            until = tf.where(length < self._span, tf.minimum(period, until), until)
        waveform = self._waveform(sound, heard, self._first_sample(start), until)
        frames = None
        if picture:
            indices = (start + self._offsets) % length
            decoded = functools.partial(self._gathered, record["frames"], indices)
            black = tf.zeros([len(self._offsets), 1, 1, 3], tf.uint8)
            # The branch is left out where every record has frames, as it costs a little time.
            every = self.has_video.all()
            frames = decoded() if every else tf.cond(shown > 0, decoded, lambda: black)
        return ClipTensors(frames, waveform, shown > 0, heard > 0)

    def _gathered(self, files: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        """Decodes some of a record's JPEG files."""
        return self._frames(tf.gather(files, indices))

    def _length(self, index: int) -> tf.Tensor:
        """Returns the number of a record's frames; without picture, those its sound would have."""
        frames = int(self._index.frames[index])
        return tf.constant(frames) if frames else self._ticks(int(self._index.samples[index]))

    def _start(self, length: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """Returns () int32, the stored frame at which a clip in `length` frames starts."""
        room = tf.maximum(length - self._span, 0)
        return tf.minimum(tf.cast(position * tf.cast(room + 1, tf.float32), tf.int32), room)

    def _frames(self, files: tf.Tensor) -> tf.Tensor:
        """Decodes (T,) JPEG files to (T, h, w, 3) uint8.

        There is one operation per frame, because `map_fn` takes a tenth longer. Decoding only a
        crop saves no time, because most of it goes into the Huffman code; and each view would need
        a crop of its own. The headers are read first, because a small file may hold a huge picture.
        """
        files = tf.unstack(files, len(self._offsets))
        sizes = tf.stack([tf.io.extract_jpeg_shape(file)[:2] for file in files])
        pixels = tf.reduce_prod(tf.cast(sizes, tf.int64), axis=1)
        reason = f"a frame has more than the {self._most_pixels} pixels that fit the recipe:"
        # The message of the raw operation is one line in eager mode, too.
        check = tf.raw_ops.Assert(
            condition=tf.reduce_all(pixels <= self._most_pixels),
            data=[reason, sizes[tf.argmax(pixels)]],
        )
        with tf.control_dependencies([check]):
            # The DCT method is fixed because TensorFlow's default may change between versions.
            return tf.stack(
                [
                    tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
                    for file in files
                ]
            )

    def _waveform(
        self, sound: tf.Tensor, heard: tf.Tensor, start: tf.Tensor, until: tf.Tensor
    ) -> tf.Tensor:
        """Cuts out sound, pads it with silence, and repeats it to the clip's length.

        Args:
            sound: () string, int16 samples.
            heard: () int32, number of samples.
            start: () int32, index of the first sample to take.
            until: () int32, number of samples after which the result repeats; at least 1.

        Returns:
            (S,) float32 in [-1, 1).
        """
        start = tf.minimum(start, heard)
        count = tf.minimum(until, heard - start)
        part = tf.io.decode_raw(tf.strings.substr(sound, 2 * start, 2 * count), tf.int16)
        part = tf.cast(part, tf.float32) / 32768
        part = tf.pad(part, [(0, until - count)])
        repeats = (self._samples + until - 1) // until
        return tf.ensure_shape(tf.tile(part, [repeats])[: self._samples], [self._samples])

    def _ticks(self, samples: tf.Tensor | int) -> tf.Tensor:
        """Returns the number of frames that a sound would have with a picture, at least 1."""
        seconds = tf.cast(samples, tf.float32) / records.SAMPLE_RATE
        return tf.maximum(tf.cast(seconds * self._rate, tf.int32), 1)

    def _first_sample(self, frame: tf.Tensor) -> tf.Tensor:
        """Returns the index of the sample at the time of a stored frame."""
        # At the usual rates a frame is a whole number of samples: exact in float32 for hours.
        samples = tf.cast(frame, tf.float32) * (records.SAMPLE_RATE / self._rate)
        return tf.cast(tf.round(samples), tf.int32)


def open_prepared(
    data: ml_collections.ConfigDict, views: ml_collections.ConfigDict, picture: bool = True
) -> PreparedSource:
    """Opens a split of the prepared data in `data.path`, or of all sets in `data.sources`.

    Args:
        data: `data` section of the config (xkd_jax/config/pretraining.py), see `open_sets`. With a
            `data.short_sound` of "silence", the sound of records shorter than a clip does not
            repeat.
        views: `views` section of the config.
        picture: Whether every recording must have a picture.

    Returns:
        The source.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: A folder does not hold prepared data, has no such split, or lacks what the views
            need.
    """
    prepared = open_sets(data)
    if views.audio.sample_rate != records.SAMPLE_RATE:
        raise ValueError(
            f"config.views.audio.sample_rate is {views.audio.sample_rate}; "
            f"allowed with prepared data: {records.SAMPLE_RATE}"
        )
    stored = [_open_records(part, views.video.frame_rate, picture) for part in prepared.parts]
    return PreparedSource(
        prepared,
        stored,
        views.video.frame_rate,
        views.video.global_frames,
        repeats_sound=data.get("short_sound", "repeat") == "repeat",
    )


def _open_records(part: PreparedSet, frame_rate: float, picture: bool) -> "ArrayRecordDataSource":
    """Opens the records of a set, and says once what they are.

    Raises:
        ValueError: They lack what the views need, or cannot be read.
    """
    index, recipe = part.index, part.recipe
    if frame_rate > recipe.frame_rate:
        raise ValueError(
            f"config.views.video.frame_rate is {frame_rate:g}; "
            f"allowed with {part.name!r}: at most {recipe.frame_rate:g}, the rate of these data"
        )
    without = int(np.sum(np.asarray(index.frames) == 0))
    if picture and without:
        raise ValueError(
            f"{part.subject} has {without} of {len(index.names)} recordings without picture; "
            "allowed: data whose recordings all have one, or a task on audio alone"
        )
    try:
        stored = verification.open_records(part.folder, recipe, part.split, index)
    except ValueError as error:
        raise ValueError(f"{part.subject} cannot be read: {error}") from None
    seconds = np.sum(index.frames) / recipe.frame_rate
    silent = int(np.sum(np.asarray(index.samples) == 0))
    notices.say_once(
        f"{part.folder}: {wording.counted(len(stored), 'recording')} of split {part.split!r}, "
        f"{seconds:.0f} s of picture, {np.sum(index.samples) / records.SAMPLE_RATE:.0f} s of sound"
        + (f"; {silent} without sound" if silent else "")
    )
    return stored
