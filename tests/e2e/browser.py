"""A headless Chromium, driven through its DevTools pipe: no network, no package."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str | None:
    """Where Chromium is, if this machine has one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. Use it in a with statement; `profile` is an empty directory.

    `requests` are the addresses that were asked for, `complaints` what the console
    and the browser's log say.
    """

    def __init__(self, profile: Path):
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False
        self._number = 0
        to_child, self._out = os.pipe()
        self._in, from_child = os.pipe()
        # the pipe speaks on descriptors 3 and 4, whatever they are here
        pipes = f'exec {executable()} "$@" 3<&{to_child} 4>&{from_child}'
        switches = ["--headless=new", "--no-sandbox", "--disable-gpu"]
        switches += ["--no-first-run", "--remote-debugging-pipe"]
        switches += [f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", pipes, "bash", *switches],
            pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_child)
        os.close(from_child)
        self._reader = os.fdopen(self._in, "rb")
        self._session = ""

    def __enter__(self) -> "Browser":
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._out)
        self._reader.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result; events before it are taken note of."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\0"):
            byte = self._reader.read(1)
            assert byte, "Chromium is gone"
            data += byte
        message = json.loads(data[:-1])
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, event: str | None, told: dict[str, Any]) -> None:
        self._loaded |= event == "Page.loadEventFired"
        if event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{told['type']}: {told['args']}")
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(str(told["exceptionDetails"]))
        elif event == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])

    def open(self, path: Path, width: int) -> None:
        """Load a file in a window of this width; below 600 px as a phone does."""
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", mobile=width < 600, **screen)
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._next()

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is on the page."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return done["result"].get("value")

    def picture(self, path: Path, clip: dict[str, float] | None = None) -> None:
        """A PNG of the page, or of a part of it ({x, y, width, height})."""
        more = {"clip": {**clip, "scale": 1}} if clip else {}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, **more)
        path.write_bytes(base64.b64decode(data["data"]))
