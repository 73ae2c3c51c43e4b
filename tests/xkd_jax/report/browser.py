"""A headless browser for tests: Chromium or Chrome, controlled by its DevTools protocol.

The protocol (https://chromedevtools.github.io/devtools-protocol) runs over a pipe, so it needs
neither a package nor a port.
"""

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import time
from collections.abc import Iterator
from typing import Any

# $XKD_BROWSER overrides these.
NAMES = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
PHONE, DESKTOP = (390, 844), (1280, 900)


def find() -> str | None:
    """Returns the path of an installed browser, or None."""
    named = os.environ.get("XKD_BROWSER")
    return named or next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """An open page.

    Attributes:
        requests: Addresses that the page requested.
        errors: Errors of the page's scripts, and errors written to the console.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._number, self._rest, self._session = 0, b"", None
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the protocol and waits for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def open(
        self, path: pathlib.Path, size: tuple[int, int], dark: bool = False, slow: float = 1.0
    ) -> None:
        """Opens a file and waits until it is loaded.

        Args:
            path: Path of the file.
            size: Width and height of the browser's window in pixels; a phone's is narrow.
            dark: Whether the user prefers dark colors.
            slow: Seconds to wait for scripts after loading.
        """
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.absolute().as_uri())
        end = time.monotonic() + 60
        while self.evaluate("document.readyState") != "complete":
            assert time.monotonic() < end, f"{path} does not load"
            time.sleep(0.1)
        time.sleep(slow)

    def evaluate(self, script: str) -> Any:
        """Evaluates a JavaScript expression; waits for promises."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Sends a mouse event; `kind` is mouseMoved, mousePressed or mouseReleased."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags with the left button from one place to another."""
        left = {"button": "left", "clickCount": 1}
        self.mouse("mousePressed", *start, **left)
        self.mouse("mouseMoved", *end, button="left", buttons=1)
        self.mouse("mouseReleased", *end, **left)

    def box(self, selector: str, number: int = 0) -> dict[str, float]:
        """Scrolls to an element; returns its x, y, width and height in the browser's window."""
        return self.evaluate(
            f"(() => {{ const e = document.querySelectorAll({json.dumps(selector)})[{number}];"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect();"
            "return {x: b.x, y: b.y, width: b.width, height: b.height}; })()"
        )

    def screenshot(self, path: pathlib.Path, whole: bool = False) -> None:
        """Writes the visible part of the page, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], 60)
            read = os.read(self._read, 1 << 20) if ready else b""
            if not read:
                raise RuntimeError("the browser does not answer")
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])


@contextlib.contextmanager
def started(path: str, profile: pathlib.Path) -> Iterator[Page]:
    """Starts a browser and ends it.

    Args:
        path: Path of the browser.
        profile: Empty folder for the browser's files.
    """
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # Moved away from 3 and 4, the descriptors that the browser uses for the pipe.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 50) for end in (to_read, from_write)]
    os.close(to_read)
    os.close(from_write)
    with open(os.devnull, "r+b") as nothing:
        command = [
            path,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--mute-audio",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        process = os.posix_spawn(
            path,
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, ends[0], 3),
                (os.POSIX_SPAWN_DUP2, ends[1], 4),
                *((os.POSIX_SPAWN_DUP2, nothing.fileno(), n) for n in (0, 1, 2)),
            ],
        )
    for end in ends:
        os.close(end)
    try:
        page = Page(to_write, from_read)
        yield page
        with contextlib.suppress(RuntimeError):
            page._session = None
            page.call("Browser.close")
    finally:
        os.close(to_write)
        os.close(from_read)
        for _ in range(100):
            if os.waitpid(process, os.WNOHANG)[0]:
                break
            time.sleep(0.1)
        else:
            os.kill(process, 9)
            os.waitpid(process, 0)
