"""The way from a checkpoint to a bundle that the device runs. May import train and edge."""

import edge  # noqa: F401  # before onnxruntime, which looks once for what edge says of its telemetry
