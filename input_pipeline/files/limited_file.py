"""A file that ends early for FFmpeg if it reads too many bytes without finding a packet."""

import contextlib
import io
from collections.abc import Iterator

# Largest numbers of bytes before the first packet, where covers are, and between two packets. The
# packets of compressed sound and of a GIF are smaller.
MOST_AHEAD = 1 << 26
MOST_BETWEEN = 1 << 24


class LimitedFile(io.FileIO):
    """A file that ends early, while it is limited, if too much is read between two packets."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._limit = float("inf")
        self._count = 0  # bytes read since the last packet

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes; none at the end of the file or above the limit."""
        if self._count > self._limit:
            return b""
        data = super().read(size)
        self._count += len(data)
        return data

    @contextlib.contextmanager
    def limited(self, most: int) -> Iterator[None]:
        """Limits the bytes read between two calls of `found_packet`, within the context."""
        self._limit, self._count = most, 0
        try:
            yield
        finally:
            self._limit = float("inf")

    def found_packet(self) -> None:
        """Starts to count anew, as FFmpeg has found a packet or the end of the file.

        Raises:
            ValueError: The file has ended early.
        """
        if self._count > self._limit:
            raise ValueError(f"{self._limit} bytes hold no packet")
        self._count = 0
