"""The data depend on the seed and the step alone, not on threads, processes or the start."""

import dataclasses
import gc
import itertools
import math
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest
import tensorflow as tf

from configs import base
from input_pipeline import reading, views
from input_pipeline.example_order import BalancedOrder, ExampleOrder, epoch_order
from input_pipeline.loader import Loader, ReadError
from input_pipeline.media.reader import Clip

REPOSITORY = pathlib.Path(__file__).parents[2]


class FakeSource:
    """A source of noise that depends on recording and position; every third one has no sound."""

    labels = None
    class_names = ()

    def __init__(self, count=10, slow=0.0, broken=None):
        self.count = count
        self.slow = slow
        self.broken = broken
        self.reads = []
        self.running = self.most_running = 0
        self.lock = threading.Lock()

    def __len__(self):
        return self.count

    def name(self, index):
        return f"clip {index}.mp4"

    def read(self, index, position):
        with self.lock:
            self.reads.append((index, position))
            self.running += 1
            self.most_running = max(self.running, self.most_running)
        rng = np.random.default_rng([index, int(position * 2**24)])
        # Some reads take longer than others, so that threads finish in another order.
        time.sleep(self.slow * rng.random())
        with self.lock:
            self.running -= 1
        if index == self.broken:
            raise ValueError("the file is cut off")
        has_audio = index % 3 > 0
        return Clip(
            frames=rng.integers(0, 256, (8, 32, 40, 3), np.uint8),
            waveform=0.1 * rng.standard_normal(16_000).astype(np.float32) * has_audio,
            has_audio=has_audio,
        )


def small_config():
    """Returns a config for small views of one second, two of them local."""
    config = base.get_config().views
    config.video.global_frames, config.video.local_frames = 8, 4
    config.video.global_size, config.video.local_size = 24, 16
    config.audio.global_frames, config.audio.local_frames = 112, 56
    config.audio.local_seconds = 0.5
    config.video.local_count = config.audio.local_count = 2
    return config


def load(first, last, source=None, batch_size=4, seed=0, **options):
    """Loads batches `first` to `last - 1`."""
    loader = Loader(source or FakeSource(), small_config(), batch_size, seed, **options)
    return list(loader.batches(first, last))


def assert_same(ours, expected):
    assert len(ours) == len(expected)
    for our_batch, expected_batch in zip(ours, expected, strict=True):
        assert our_batch.keys() == expected_batch.keys()
        for name, value in expected_batch.items():
            assert our_batch[name].dtype == value.dtype
            np.testing.assert_array_equal(our_batch[name], value, err_msg=name)


@pytest.fixture(scope="module")
def batches():
    """The first eight batches of four examples: a little more than three epochs of ten."""
    return load(0, 8)


def test_only_the_views_asked_for_are_made(batches):
    class Blind(FakeSource):
        """A source without frames."""

        def read(self, index, position):
            clip = super().read(index, position)
            return dataclasses.replace(clip, frames=np.zeros((0, 1, 1, 3), np.uint8))

    for modality, source in (("audio", Blind()), ("video", FakeSource())):
        loaded = load(0, 2, source, modalities=(modality,))
        other = {"audio": "video", "video": "audio"}[modality]
        expected = [
            {name: x for name, x in batch.items() if not name.startswith(other)}
            for batch in batches[:2]
        ]
        assert_same(loaded, expected)
    with pytest.raises(ValueError, match=r"modalities is \('sound',\); allowed: one or both of"):
        load(0, 1, modalities=("sound",))


def test_some_examples_are_loaded_as_a_source_of_their_own_would_be():
    chosen = [7, 2, 5]
    loader = Loader(FakeSource(), small_config(), 2, seed=0, order=ExampleOrder(chosen))
    assert loader.steps_per_epoch == 1.5
    some, _ = zip(*(loader.examples(step) for step in range(3)), strict=True)
    np.testing.assert_array_equal(np.concatenate(some), [0, 0, 0, 1, 1, 1])
    ids = np.concatenate([loader.examples(step)[1] for step in range(3)])
    for epoch in range(2):
        order = epoch_order(3, 0, epoch)
        np.testing.assert_array_equal(ids[3 * epoch :][:3], np.array(chosen)[order])
    # Draws are keyed by the index in the source, whatever other recordings are loaded.
    [batch] = load(0, 1, order=ExampleOrder([5]), batch_size=1)
    everything = {int(i): b for b in load(0, 10, batch_size=1) for i in b["example_id"]}
    assert_same([batch], [everything[5]])
    with pytest.raises(ValueError, match="has no examples"):
        load(0, 1, order=ExampleOrder([]))


# The stream of examples.


def examples(count, batch_size, seed, steps, process_index=0, process_count=1):
    loader = Loader(
        FakeSource(count), small_config(), batch_size, seed, process_index, process_count
    )
    epochs, ids = zip(*(loader.examples(step) for step in range(steps)), strict=True)
    return np.concatenate(epochs), np.concatenate(ids)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (12, 4), (3, 8), (1, 2), (1000, 256)])
def test_each_epoch_has_every_example_once(count, batch_size):
    epochs, ids = examples(count, batch_size, seed=3, steps=1 + 4 * count // batch_size)
    np.testing.assert_array_equal(epochs, np.arange(len(epochs)) // count)
    for epoch in range(epochs[-1]):
        np.testing.assert_array_equal(np.sort(ids[epochs == epoch]), np.arange(count))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_one_stream(processes):
    _, whole = examples(10, 8, seed=0, steps=5)
    parts = [examples(10, 8, 0, 5, index, processes)[1] for index in range(processes)]
    joined = np.concatenate([part.reshape(5, -1) for part in parts], axis=1)
    np.testing.assert_array_equal(joined.ravel(), whole)


def test_an_epoch_may_be_any_number_of_steps():
    assert Loader(FakeSource(10), small_config(), 4, 0).steps_per_epoch == 2.5


def test_a_batch_may_hold_an_example_twice_and_show_it_in_two_ways():
    """Of three examples, two share a class."""
    order = BalancedOrder([7, 2, 5], [(0,), (0,), (1,)])
    whole = load(0, 6, order=order)
    ids = np.concatenate([batch["example_id"] for batch in whole])
    assert max(np.sum(epoch == 5) for epoch in ids.reshape(8, 3)) == 2
    rare = np.concatenate([batch["video_global"][batch["example_id"] == 5] for batch in whole])
    assert len({view.tobytes() for view in rare}) == len(rare) > 8
    assert_same(load(4, 6, order=order), whole[4:])


# Batches.


def test_batches_hold_what_the_contract_says(batches):
    expected = {
        "video_global": ((4, 8, 24, 24, 3), np.uint8),
        "video_local": ((4, 2, 4, 16, 16, 3), np.uint8),
        "audio_global": ((4, 80, 112), np.float32),
        "audio_local": ((4, 2, 80, 56), np.float32),
        "has_video": ((4,), bool),
        "has_audio": ((4,), bool),
        "example_id": ((4,), np.int64),
        "epoch": ((4,), np.int32),
    }
    for batch in batches:
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == expected


def test_rows_are_the_views_of_their_example_at_its_position():
    source, seed = FakeSource(), 5
    (batch,) = load(6, 7, source, seed=seed)
    assert len(set(batch["epoch"])) == 1
    for row, (epoch, example) in enumerate(zip(batch["epoch"], batch["example_id"], strict=True)):
        key = views.example_key(seed, epoch, example)
        position = float(views.clip_position(key))
        assert (example, position) in source.reads
        clip = source.read(example, position)
        assert batch["has_audio"][row] == clip.has_audio == bool(example % 3)
        expected = views.training_views(
            key, clip.frames, tf.constant(clip.waveform), small_config()
        )
        for name, view in expected.items():
            np.testing.assert_allclose(batch[name][row], view, atol=1e-5, err_msg=name)


def test_silent_examples_are_finite(batches):
    for batch in batches:
        silent = batch["audio_global"][~batch["has_audio"]]
        assert np.isfinite(silent).all()
        np.testing.assert_allclose(silent, silent.min(initial=0))


def test_an_example_looks_different_in_every_epoch(batches):
    seen = [
        batch["video_global"][row]
        for batch in batches
        for row in range(4)
        if batch["example_id"][row] == 0
    ]
    assert len(seen) >= 3
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(seen))


def test_seeds_differ(batches):
    (other,) = load(0, 1, seed=1)
    assert not np.array_equal(other["example_id"], batches[0]["example_id"])


@pytest.mark.parametrize("start", [1, 2, 5])
def test_batches_from_a_step_on_are_those_of_the_whole_run(batches, start):
    source = FakeSource()
    assert_same(load(start, 8, source), batches[start:])
    # The batches before it were not made.
    assert len(source.reads) == 4 * (8 - start)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads_change_nothing(batches, threads):
    source = FakeSource(slow=0.02)
    assert_same(load(0, 8, source, threads=threads), batches)
    assert source.most_running <= threads


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="the system does not tell")
def test_the_threads_behind_the_batches_are_metered():
    loader = Loader(FakeSource(), small_config(), 4, 0, threads=2)
    assert math.isnan(loader.processor_seconds())
    batches = loader.batches()
    next(batches)
    first = loader.processor_seconds()
    for _ in range(40):
        next(batches)
    # Views of 160 clips take some 100 ms; the system counts in steps of 10.
    assert loader.processor_seconds() > first
    batches.close()


def test_threads_read_together():
    source = FakeSource(slow=0.05)
    load(0, 4, source, threads=4)
    assert source.most_running > 1


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_prefetching_changes_nothing(batches, prefetch):
    assert_same(load(0, 3, prefetch=prefetch), batches[:3])


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_make_slices_of_the_one_batch(batches, processes):
    parts = [load(0, 4, process_index=index, process_count=processes) for index in range(processes)]
    joined = [
        {name: np.concatenate([part[name] for part in slices]) for name in slices[0]}
        for slices in zip(*parts, strict=True)
    ]
    assert_same(joined, batches[:4])


def test_batches_are_endless():
    stream = Loader(FakeSource(1), small_config(), 2, 0).batches(10**6)
    np.testing.assert_array_equal(next(stream)["epoch"], [2 * 10**6, 2 * 10**6 + 1])
    stream.close()


def test_what_sources_leave_in_cycles_does_not_pile_up(monkeypatch):
    """PyAV leaves such cycles: containers and streams refer to each other."""

    class Cycle:
        def __init__(self):
            self.itself = self
            alive.add(self)

    class LeavingSource(FakeSource):
        def read(self, index, position):
            Cycle()
            most.append(len(alive))
            return super().read(index, position)

    alive, most = weakref.WeakSet(), []
    monkeypatch.setattr(reading, "_READS_PER_COLLECTION", 8)
    gc.collect()
    gc.disable()  # as if there were too many other objects to reach these
    try:
        load(0, 10, LeavingSource(), threads=2)
    finally:
        gc.enable()
    assert len(most) == 40
    assert max(most) <= 10


# Errors and ends.


def test_an_unreadable_example_is_one_clear_error():
    with pytest.raises(ReadError, match=r"example 3, clip 3\.mp4: the file is cut off") as caught:
        load(0, 8, FakeSource(broken=3))
    assert isinstance(caught.value.__cause__, ValueError)


def test_batches_before_an_unreadable_example_still_come(batches):
    broken = batches[2]["example_id"][0]
    order = np.concatenate([batch["example_id"] for batch in batches])
    step = int(np.argmax(order == broken)) // 4
    stream = Loader(FakeSource(broken=broken), small_config(), 4, 0).batches()
    assert_same([next(stream) for _ in range(step)], batches[:step])
    with pytest.raises(ReadError):
        next(stream)


def test_closing_stops_reading():
    source = FakeSource(slow=0.05)
    stream = Loader(source, small_config(), 4, 0, threads=4).batches()
    next(stream)
    stream.close()
    assert source.running == 0
    reads = len(source.reads)
    time.sleep(0.3)
    assert len(source.reads) == reads


def test_refuses_a_source_without_examples():
    with pytest.raises(ValueError, match="no examples"):
        Loader(FakeSource(0), small_config(), 4, 0)


def test_refuses_processes_that_cannot_share_a_batch():
    with pytest.raises(ValueError, match="batch_size is 4; allowed: a multiple of 3"):
        Loader(FakeSource(), small_config(), 4, 0, process_count=3)


def test_leaves_the_accelerator_alone():
    assert tf.config.get_visible_devices("GPU") == []


@pytest.mark.slow  # a program that imports TensorFlow; test_imports.py always has one
def test_needs_no_jax_and_ends_with_the_program():
    """JAX cannot be imported, and batches are still being made when the program ends."""
    program = textwrap.dedent("""
        import sys
        sys.modules["jax"] = None  # importing it fails
        from tests.input_pipeline import test_loader as here
        source = here.FakeSource(slow=0.5)
        stream = here.Loader(source, here.small_config(), 4, 0, threads=4).batches()
        next(stream)
    """)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        timeout=120,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
