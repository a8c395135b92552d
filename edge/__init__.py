"""The device side: from a depth camera's frame to a verdict on the broker. Imports no torch."""

import os

# ONNX Runtime's own wheels (1.29 and later) keep a database of events in ~/.cache, on a thread that never
# ends, and send them to its maker. They look at this once, as they are loaded, and edge is loaded before.
# Whoever has set it keeps what they have set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
