"""A start longer than TimeoutStartSec=, told to systemd by what tells it while engines are built."""

from __future__ import annotations

import signal
import sys
import time

from edge.rig import BuildNews
from edge.runtime.tensorrt.progress import BuildStep
from edge.systemd import Notifier

_STEPS = 12

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    notifier = Notifier()
    news = BuildNews(notifier)
    for step in range(_STEPS):
        news(BuildStep(onnx="teacher.onnx", phase="tactics", fraction=step / _STEPS))
        time.sleep(0.5)
    notifier.ready()
    while True:
        notifier.watchdog()
        time.sleep(0.5)
