"""Headless Chromium for tests of pages, over its DevTools pipe: no driver and no library is needed.

    from tests.helpers.browser import opened, serious_findings

    def test_my_page(tmp_path):
        with opened(tmp_path / "page.html", width=380) as page:    # or an address: opened("http://127.0.0.1:5000/")
            assert page.errors == []                               # console errors, exceptions, what did not load
            assert page.evaluate("document.title") == "Mine"       # any JavaScript; promises are awaited
            page.press("Tab"); page.type("a red coat"); page.press("Enter"); page.click("#first")
            page.wait_for("document.querySelectorAll('img').length > 3")
            assert page.overflow() == 0                            # pixels that the body is too wide
            page.screenshot(tmp_path / "page.png"); page.pdf(tmp_path / "page.pdf")
            assert serious_findings(page) == []                    # accessibility, by axe-core; skips without it

The test is skipped, with the reason, where there is no Chromium. `page.resize(1280)` and `page.dark(True)` change the
window and the colour scheme. For anything else: `page.call("Domain.method", name=value)`, as
https://chromedevtools.github.io/devtools-protocol names it.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio"),
    *("--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic", "--disable-extensions", "--remote-debugging-pipe"),
)
PATIENCE = 60.0  # seconds for one answer, on a machine with much else to do
AXE, AXE_VARIABLE = "axe-core@4.14.1", "AXE_CORE"  # from npm; the variable names an axe.min.js that is there already
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "ArrowDown": 40, "ArrowUp": 38}


class Page:
    """One page in its own browser."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._buffer, self._number, self._session = to, back, b"", 0, ""
        self._loads = 0
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """A command of the DevTools protocol, and what it answers. Raises RuntimeError with its fault."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._to, rest) :]
        while True:
            answer = self._read(time.monotonic() + PATIENCE, method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, where: Path | str) -> None:
        """Load a file or an address, and wait until it is there."""
        before = self._loads
        found = self.call("Page.navigate", url=where.absolute().as_uri() if isinstance(where, Path) else where)
        if found.get("errorText"):
            raise RuntimeError(f"{where}: {found['errorText']}")
        end = time.monotonic() + PATIENCE
        while self._loads == before:
            self._read(end, f"loading {where}")

    def evaluate(self, script: str) -> Any:
        """What the JavaScript expression comes to. Raises RuntimeError with an exception's text."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(_told(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = PATIENCE) -> None:
        """Wait until the expression is true. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({script})"):
            if time.monotonic() > end:
                raise TimeoutError(f"not true after {seconds:g} s: {script}")
            time.sleep(0.05)

    def resize(self, width: int, height: int = 900) -> None:
        """The window, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def dark(self, dark: bool) -> None:
        """Which colour scheme the reader prefers."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str, shift: bool = False) -> None:
        """One key by its name (KEYS)."""
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        code = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        pressed = {"type": "keyDown" if text else "rawKeyDown", "modifiers": 8 * shift, **code}
        self.call("Input.dispatchKeyEvent", **pressed, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=8 * shift, **code)

    def type(self, text: str) -> None:
        """Letters into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """The middle of the first element that the selector finds."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{place}.scrollIntoView({{block: 'center'}})")
        box = self.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({place}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window: 0 if nothing must be scrolled sideways."""
        return int(self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def broken_images(self) -> list[str]:
        """Images that did not load, by the beginning of their source."""
        script = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(0, 200))"
        return list(self.evaluate(script))

    def screenshot(self, path: Path | None = None, full: bool = False) -> bytes:
        """The window as PNG, or the `full` page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        return _kept(base64.b64decode(data), path)

    def pdf(self, path: Path | None = None) -> bytes:
        """The page printed on A4."""
        data = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)["data"]
        return _kept(base64.b64decode(data), path)

    def _read(self, end: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._back], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium does not answer: {what}")
            part = os.read(self._back, 1 << 20)
            if not part:
                raise RuntimeError(f"Chromium has ended: {what}")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loads += 1
        elif event == "Runtime.exceptionThrown":
            self.errors.append(_told(told["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in told["args"]))
        elif event == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}".strip())
        elif event == "Network.loadingFailed" and not told.get("canceled"):
            self.errors.append(f"did not load: {told['errorText']}")


@contextmanager
def opened(where: Path | str, width: int = 1280, dark: bool = False) -> Iterator[Page]:
    """The page at a file or an address in a browser of its own; the test is skipped where there is no Chromium."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium here ({', '.join(NAMES)})")
    (read, to), (back, write) = os.pipe(), os.pipe()
    # The browser reads its third and writes its fourth file descriptor; as high ones they do not collide on the way.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (read, write)]
    os.close(read), os.close(write)
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        placed = f"import os, sys; os.dup2({ends[0]}, 3); os.dup2({ends[1]}, 4); os.execvp(sys.argv[1], sys.argv[1:])"
        process = subprocess.Popen(
            [sys.executable, "-c", placed, *command],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_home(profile),
        )
        for end in ends:
            os.close(end)
        try:
            page = Page(to, back)
            page.resize(width)
            page.dark(dark)
            page.open(where)
            yield page
            with suppress(RuntimeError, TimeoutError):
                page.call("Runtime.evaluate", expression="0")  # what was said until now is read
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(to), os.close(back)


def holds_up(page: Path, hostile: str) -> None:
    """What every page of ours must stand: phone and screen, day and night, and `hostile` is there as text.

    Nothing fails, all images load, the body does not overflow, and axe has no serious finding.
    """
    with opened(page) as shown:
        for width in (380, 1280):
            shown.resize(width)
            assert shown.overflow() == 0, (width, shown.overflow())
        shown.evaluate("[...document.images].forEach(image => { image.loading = 'eager'; })")
        shown.wait_for("[...document.images].every(image => image.complete)")
        assert shown.broken_images() == [], shown.broken_images()
        assert shown.errors == [], shown.errors
        assert shown.evaluate(f"document.body.textContent.includes({json.dumps(hostile)})")
        assert shown.evaluate("document.querySelectorAll('script').length") == 0
        light = shown.screenshot()
        shown.dark(True)
        assert shown.screenshot() != light
        findings = serious_findings(shown)
        assert findings == [], findings


def serious_findings(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page; the test is skipped where axe-core cannot be had."""
    page.evaluate(_axe())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    return [
        f"{each['id']}: {each['help']}: {node['target']} {node.get('failureSummary', '')}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@cache
def _axe() -> str:
    if given := os.environ.get(AXE_VARIABLE):
        return Path(given).read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no axe-core: {AXE_VARIABLE} names no axe.min.js, and there is no npm to fetch it")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [npm, "pack", "--silent", AXE], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        packed = next(Path(folder).glob("*.tgz"), None)
        if done.returncode or packed is None:
            pytest.skip(f"no axe-core: npm pack {AXE} failed ({' '.join(done.stderr.split())[-200:]})")
        with tarfile.open(packed) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            return member.read().decode()


def _home(folder: str) -> dict[str, str]:
    """The environment with no folder of the user's in it, so that nothing of theirs is read or written."""
    return os.environ | {"HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder}


def _told(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details.get("text"))


def _kept(data: bytes, path: Path | None) -> bytes:
    if path is not None:
        path.write_bytes(data)
    return data
