"""Every error that edge-inspect raises on purpose.

::

    EdgeError                            1
    ├── ConfigError                      3   the rig's YAML, or an option
    ├── CameraError                      4
    │   ├── CameraNotFound                   nothing is plugged in
    │   ├── CameraLost                       it was there and is gone
    │   ├── CameraStalled                    it is there and sends nothing
    │   ├── CameraOptionRefused              an option read back differs from what was set
    │   ├── RecordingCorrupt                 a recording does not hold what it says it holds
    │   └── CaptureError                     a folder of images does not fit together
    ├── FrameError                       4   a frame whose arrays, units or numbers can't be right
    │   └── DepthUnusable                    its depth is too sparse to see the background by
    ├── BundleError                      5
    │   ├── BundleCorrupt                    a file is missing, or differs from its sha256
    │   └── BundleInvalid                    whole, but its parts don't fit together
    ├── RunnerError                      6   a stage could not be loaded or run
    ├── BrokerError                      7
    │   ├── BrokerRefused                    it answered, and said no
    │   └── BrokerUnreachable                it did not answer, or did not acknowledge in time
    ├── CalibrationError                11
    └── (workstation)
        ├── DatasetError                 8   what lies on disk is not the data set it should be
        ├── TrainingError                9   a NaN, an empty mask, a checkpoint that does not fit
        └── ExportError                 10   a stage that can't be exported, or misses its tolerance

The number is the exit code of a command that ends with it. 0 is success and 2 is a wrong command line;
`edge-inspect` also ends with 20 (a part failed) and 21 (a part got no decision, or an error).
Each message says what is wrong, with the numbers, and how to mend it.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BrokerError",
    "BrokerRefused",
    "BrokerUnreachable",
    "BundleCorrupt",
    "BundleError",
    "BundleInvalid",
    "CalibrationError",
    "CameraError",
    "CameraLost",
    "CameraNotFound",
    "CameraOptionRefused",
    "CameraStalled",
    "CaptureError",
    "ConfigError",
    "DatasetError",
    "DepthUnusable",
    "EdgeError",
    "ExportError",
    "FrameError",
    "RecordingCorrupt",
    "RunnerError",
    "TrainingError",
]


class EdgeError(Exception):
    """Root of the tree; `exit_code` is what a command that ends with it returns."""

    exit_code: ClassVar[int] = 1


class ConfigError(EdgeError):
    """The configuration is wrong; the message names file, line, key, and what is allowed."""

    exit_code = 3


class CameraError(EdgeError):
    """The frame source can't deliver."""

    exit_code = 4


class CameraNotFound(CameraError):
    """No camera of the kind asked for is plugged in."""


class CameraLost(CameraError):
    """The camera was there and is gone."""


class CameraStalled(CameraError):
    """The camera is there but sent no frame within the time allowed."""


class CameraOptionRefused(CameraError):
    """The camera does not hold an option at the value that was set."""


class RecordingCorrupt(CameraError):
    """A recording is damaged: it does not hold the frames that it says it holds."""


class CaptureError(CameraError):
    """A folder of captures is incomplete, or its images don't fit together."""


class FrameError(EdgeError):
    """A frame's arrays, units or numbers can't be right."""

    exit_code = 4


class DepthUnusable(FrameError):
    """The frame's depth is too sparse, or too far from a plane, to tell part from background."""


class BundleError(EdgeError):
    """A model bundle can't be used."""

    exit_code = 5


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, or differs from the sha256 in the manifest."""


class BundleInvalid(BundleError):
    """The bundle is whole, but what its manifest says does not fit together."""


class RunnerError(EdgeError):
    """A stage of the bundle could not be loaded or run."""

    exit_code = 6


class BrokerError(EdgeError):
    """The MQTT broker can't be used."""

    exit_code = 7


class BrokerRefused(BrokerError):
    """The broker answered, and refused the connection or the message."""


class BrokerUnreachable(BrokerError):
    """The broker did not answer, or did not acknowledge in time."""


class CalibrationError(EdgeError):
    """A threshold can't be found, or belongs to another model."""

    exit_code = 11


class DatasetError(EdgeError):
    """What lies on disk is not the data set that it should be."""

    exit_code = 8


class TrainingError(EdgeError):
    """Training can't go on."""

    exit_code = 9


class ExportError(EdgeError):
    """A stage can't be exported, or differs from torch by more than its tolerance."""

    exit_code = 10
