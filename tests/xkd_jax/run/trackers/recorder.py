"""A tracker for tests."""

import threading

from xkd_jax.run.trackers.tracker import Tracker


class Recorder(Tracker):
    """Records its calls; fails at some steps, and waits at others until it is released."""

    run_id = "abc"

    def __init__(self, fails=(), waits=()):
        self.calls, self.fails, self.waits = [], fails, waits
        self.released = threading.Event()

    def record(self, name, *args, **options):
        step = args[0] if args else None
        if step in self.waits:
            self.released.wait(30)
        if step in self.fails:
            raise ConnectionError("no route\nto host")
        self.calls.append((name, *args, *options.values()))

    def write_hparams(self, hparams):
        self.record("hparams", hparams)

    def write_scalars(self, step, scalars):
        self.record("scalars", step, scalars)

    def write_images(self, step, images):
        self.record("images", step, images)

    def write_videos(self, step, videos, *, frame_rate=1.0):
        self.record("videos", step, videos, frame_rate=frame_rate)

    def write_audios(self, step, audios, *, sample_rate):
        self.record("audios", step, audios, sample_rate=sample_rate)

    def write_texts(self, step, texts):
        self.record("texts", step, texts)

    def flush(self):
        pass

    def close(self, failed=False):
        self.record("close", failed)
