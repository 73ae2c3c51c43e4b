"""A stand-in for JAX's coordination service, for processes that threads stand for."""

import threading
import time

from jax.errors import JaxRuntimeError as Error


class Service:
    """Stands for JAX's coordination service; while `down` is set, it does not answer."""

    def __init__(self):
        self.values, self.lock, self.down = {}, threading.Lock(), False

    def key_value_set(self, key, value, allow_overwrite=False):
        self._answer()
        with self.lock:
            if key in self.values and not allow_overwrite:
                raise Error("ALREADY_EXISTS")
            self.values[key] = value

    def key_value_dir_get(self, key):
        self._answer()
        with self.lock:
            return [(name, value) for name, value in self.values.items() if name.startswith(key)]

    def _answer(self):
        while self.down:
            time.sleep(0.01)
