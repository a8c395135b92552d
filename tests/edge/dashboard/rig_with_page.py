"""`edge-daemon` with a simulated camera, no broker, and its page: parts come when the test says so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from edge.demo.rig import packaged_bundle

__all__ = ["RigWithPage", "free_port"]

_PATIENCE_S = 120.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class RigWithPage:
    """A rig that is triggered by command; `start` and `stop` as often as one likes, on one port.

    Nobody listens where it looks for a broker.
    """

    def __init__(self, folder: Path, *, trigger: dict[str, Any] | None = None, **sections: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        config = {
            "rig": {
                "enterprise": "acme",
                "site": "dresden",
                "area": "assembly",
                "line": "line-3",
                "cell": "cell-2",
            },
            "camera": {"source": "simulated", "product": "plate", "seed": 7, "read_timeout_s": 30},
            "bundle": str(packaged_bundle()),
            "trigger": trigger or {"kind": "command", "timeout_s": 60},
            "broker": {"host": "127.0.0.1", "port": free_port()},
            "runtime": {"backend": "onnx", "threads": 1},
            "health": {"interval_s": 1},
            "daemon": {"state_dir": str(folder / "state"), "max_frame_age_s": 60},
            "dashboard": {"port": self.port},
            **sections,
        }
        self._yaml = folder / "rig.yaml"
        self._yaml.write_text(yaml.safe_dump(config), encoding="utf-8")

    def start(self) -> None:
        """Until the page is there and parts can be inspected."""
        with (self._folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge.child", str(os.getpid()), sys.executable, "-m",
                 "edge.commands.daemon", str(self._yaml)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        end_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end_s:
            assert self._process.poll() is None, self.log
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(self.log)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(_PATIENCE_S)

    @property
    def log(self) -> str:
        return (self._folder / "daemon.log").read_text(encoding="utf-8", errors="replace")[-4000:]

    def command(self, **order: Any) -> dict[str, Any]:
        """As the page sends it; the rig's answer."""
        request = urllib.request.Request(
            f"{self.url}command", json.dumps(order).encode(), {"Origin": self.url.rstrip("/")}
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            said: dict[str, Any] = json.load(answer)
            return said

    def inspect(self) -> str:
        """A part goes under the camera; the id of the verdict that it will get."""
        end_s = time.monotonic() + _PATIENCE_S
        while (answer := self.command(command="trigger"))["status"] != "accepted":
            # The page is there before the rig has its first frame.
            assert answer["reason"] == "trigger_refused", answer
            assert time.monotonic() < end_s, answer
            time.sleep(0.1)
        return str(answer["result_id"])
