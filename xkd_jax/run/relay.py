"""A relay between a process and JAX's coordination service, which hides that the service is gone.

JAX aborts a process, with a stack trace, as soon as its connection to the service in process 0
breaks. Through a relay in the process itself, the connection stays open and silent instead. So
`peers` can end the process, as when any other process is lost.
"""

import contextlib
import socket
import threading
from collections.abc import Callable

_MOST = 1 << 16  # bytes passed on at once


class Relay:
    """A port of this machine that leads to an address for as long as this process lives.

    If nothing listens at the address, new connections are closed at once, so that the caller tries
    again. If the address closes a connection, the caller does not learn of it.

    Args:
        target: `HOST:PORT` to connect to.

    Attributes:
        address: `HOST:PORT` of the relay.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host.strip("[]"), int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        _start(self._accept)

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            _start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        """Passes on what comes from either side, until the near side closes the connection."""
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        with near, far:
            for side in (near, far):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _start(_pass_on, far, near)
            _pass_on(near, far)
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)  # closing alone would wait for the other thread


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Passes bytes on until the source ends. If the sink is gone, they are dropped."""
    with contextlib.suppress(OSError):
        while data := source.recv(_MOST):
            with contextlib.suppress(OSError):
                sink.sendall(data)


def _start(function: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=function, args=arguments, name="relay", daemon=True).start()
