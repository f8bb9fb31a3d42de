"""A page as a person meets it: headless Chromium, spoken to over a pipe in the DevTools protocol. Skips without it."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SECONDS = 120  # until a test gives up on an answer
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WORDS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
)


class Tab:
    """One open page. `complaints` are what the console would show in red: exceptions, errors, refused by the policy."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read, self.session, self.number, self.rest = write, read, "", 0, b""
        self.complaints: list[str] = []

    def open(self, page: Path, width: int = 1200, height: int = 900) -> None:
        """Show a file in a new tab of this size, and wait until it is loaded."""
        self.session, self.complaints = "", []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for area in ("Page", "Runtime", "Log"):
            self.ask(f"{area}.enable")
        self.size(width, height)
        self.ask("Page.navigate", url=page.resolve().as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def size(self, width: int, height: int) -> None:
        """Of the window, in pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def tell(self, script: str) -> Any:
        """The value of an expression of JavaScript; that of a promise once it is kept."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in found:
            raise AssertionError(json.dumps(found["exceptionDetails"])[:500])
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Look again and again until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.tell(script):
            if time.monotonic() > end:
                raise AssertionError(f"never true in {SECONDS} s: {script}")
            time.sleep(0.02)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place of the window and let it go at another."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def picture(self, path: Path, whole: bool = True) -> Path:
        """What is seen, as a PNG file; of the whole page or of the window."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        """One call of the protocol -> its answer; what else is told meanwhile is heard for complaints."""
        self.number += 1
        about = {"sessionId": self.session} if self.session and not method.startswith("Target.") else {}
        message = {"id": self.number, "method": method, "params": values} | about
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self.number:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                return told["result"]
            self._hear(told)

    def _hear(self, told: dict[str, Any]) -> None:
        values = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(values["exceptionDetails"])[:500])
        if told.get("method") == "Runtime.consoleAPICalled" and values["type"] in ("error", "assert"):
            self.complaints.append(json.dumps(values["args"])[:500])
        if told.get("method") == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.complaints.append(values["entry"]["text"][:500])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            if not select.select([self.read], [], [], SECONDS)[0]:
                raise AssertionError(f"Chromium has not answered for {SECONDS} s")
            part = os.read(self.read, 1 << 20)
            if not part:
                raise ConnectionError("Chromium has gone")
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A tab of a Chromium of one's own, with its profile in a folder of one's own; ended at the end."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    (theirs_in, ours_out), (ours_in, theirs_out) = _far(os.pipe()), _far(os.pipe())
    command = [CHROMIUM, *WORDS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=lambda: (os.dup2(theirs_in, 3), os.dup2(theirs_out, 4)),  # where the protocol expects its pipes
    )
    os.close(theirs_in), os.close(theirs_out)
    tab = Tab(ours_out, ours_in)
    try:
        try:
            tab.ask("Browser.getVersion")
        except (ConnectionError, BrokenPipeError):
            pytest.skip("Chromium does not start here")
        yield tab
    finally:
        process.terminate()
        process.wait(SECONDS)
        os.close(ours_out), os.close(ours_in)


def _far(pipe: tuple[int, int]) -> tuple[int, int]:
    """The same pipe at numbers that are in nobody's way, closed in every other process."""
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 64) for end in pipe)
    for end in pipe:
        os.close(end)
    return moved[0], moved[1]
