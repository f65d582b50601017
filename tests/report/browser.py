"""A real browser for tests: headless Chromium, spoken to over a pipe in its DevTools protocol.

`CIM_BROWSER` names the program; else chromium, chromium-browser or google-chrome is looked for. Nothing but the
standard library is needed. Messages are JSON objects that end with a NUL.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-sync",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    *(
        "--disable-dev-shm-usage",
        "--no-default-browser-check",
        "--hide-scrollbars",
        "--remote-debugging-pipe",
    ),
)
_PATIENCE_S = 60.0


def find_browser() -> str | None:
    """The path of a browser; None if there is none."""
    named = os.environ.get("CIM_BROWSER")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(RuntimeError):
    """The browser said no, or nothing at all."""


@dataclass(slots=True)
class Page:
    """A tab: what it has asked for and complained about since it was opened."""

    _connection: _Connection
    session: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: object) -> Any:
        """A command of the protocol to this tab; its result."""
        return self._connection.call(method, self.session, **parameters)

    def open(self, path: Path) -> None:
        """Load a file and wait until it has done so."""
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._connection.wait_for("Page.loadEventFired", self.session)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it gives. Raises `BrowserError` if it throws."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path, selector: str | None = None) -> None:
        """A picture of the whole page, or of an element, as PNG."""
        box = f"(document.querySelector({json.dumps(selector or 'html')})).getBoundingClientRect()"
        clip = self.evaluate(
            f"(() => {{ const b = {box}; return {{x: b.x + scrollX, y: b.y + scrollY, "
            "width: b.width, height: b.height, scale: 1}; })()"
        )
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def note(self, method: str, parameters: dict[str, Any]) -> None:
        """Keep what an event says."""
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(str(parameters["entry"]))


class _Connection:
    """Commands, answers and events over two pipes."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._number, self._rest = read, write, 0, b""
        self._events: list[tuple[str, str]] = []
        self.pages: dict[str, Page] = {}

    def call(self, method: str, session: str | None = None, /, **parameters: object) -> Any:
        """The result of a command. Raises `BrowserError`."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]

    def wait_for(self, method: str, session: str) -> None:
        """Read events until this one has come."""
        while (method, session) not in self._events:
            self._next()
        self._events.remove((method, session))

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._line())
        if "method" in message:
            session = message.get("sessionId", "")
            self._events.append((message["method"], session))
            if session in self.pages:
                self.pages[session].note(message["method"], message["params"])
        return message

    def _line(self) -> bytes:
        until = time.perf_counter() + _PATIENCE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.perf_counter()))
            piece = os.read(self._read, 1 << 20) if ready else b""
            if not piece:
                raise BrowserError("the browser has ended" if ready else "the browser does not answer")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        return line

    def page(self) -> Page:
        """A new tab that listens."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        return page


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Page]:
    """A tab of a browser of its own, with an empty profile in `folder`, which ends with the block."""
    (from_us, to_it), (from_it, to_us) = os.pipe(), os.pipe()
    flags = [*_FLAGS, f"--user-data-dir={folder}", "about:blank"]
    script = 'exec "$@" 3<&"$IN" 4>&"$OUT"'
    process = subprocess.Popen(
        [
            "bash",
            "-c",
            script.replace("$IN", str(from_us)).replace("$OUT", str(to_us)),
            "browser",
            program,
            *flags,
        ],
        pass_fds=(from_us, to_us),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(from_us)
    os.close(to_us)
    try:
        yield _Connection(from_it, to_it).page()
    finally:
        os.close(to_it)  # its end of the pipe is closed: it ends
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        os.close(from_it)
