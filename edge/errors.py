"""Every error that edge-inspect raises on purpose.

::

    EdgeError                            1
    ├── ConfigError                      3   the rig's YAML, or an option
    ├── CameraError                      4
    │   ├── CameraNotFound                   nothing is plugged in
    │   ├── CameraLost                       it was there and is gone
    │   ├── CameraStalled                    it is there and sends nothing new
    │   │   └── CameraFrozen                     it sends the same picture again and again
    │   ├── CameraOptionRefused              an option read back differs from what was set
    │   ├── CameraUsbSlow                    it hangs on USB 2
    │   ├── CameraReplaced                   another camera than the one that the rig began with
    │   ├── DepthUnitWrong                   depth is counted in another unit than before, or than expected
    │   ├── CameraViewChanged                other intrinsics than before
    │   ├── CameraAway                       no frame for now: it is being looked after, read again
    │   ├── CameraHung                       its driver does not return: only a new process gets it back
    │   ├── RecordingCorrupt                 a recording does not hold what it says it holds
    │   └── CaptureError                     a folder of images does not fit together
    ├── FrameError                       4   a frame whose arrays, units or numbers can't be right
    │   └── DepthUnusable                    its depth is too sparse to see the background by
    ├── BundleError                      5
    │   ├── BundleCorrupt                    a file is missing, a link, can't be read, or not listed
    │   │   └── FileChanged                  a file differs from its sha256
    │   ├── BundleInvalid                    whole, but its parts don't fit together
    │   │   └── PathEscapes                  a file's name leads out of the bundle
    │   ├── SignatureError
    │   │   ├── SignatureMissing             the rig lists trusted keys, and nobody has signed
    │   │   ├── SignatureBroken              signed, but not these bytes, or not by that key
    │   │   └── SignatureUntrusted           signed by a key that the rig does not list
    │   ├── KeyUnusable                      a key file that is none, or that others may read
    │   ├── ArchiveInvalid                   a .zip that holds something else than one bundle
    │   │   └── ZipBomb                      it says it unpacks to more than a bundle can be
    │   ├── GoldenInvalid                    a golden sample that does not fit the manifest
    │   ├── PickleRefused                    something pickled: reading it would run code
    │   └── FileTooLarge                     larger than such a file can be; not read
    ├── RunnerError                      6   a stage could not be loaded or run
    │   └── GpuLost                          the GPU's context is broken: only a new process gets it back
    ├── BrokerError                      7
    │   ├── BrokerRefused                    it answered, and said no
    │   └── BrokerUnreachable                it did not answer, or did not acknowledge in time
    ├── CalibrationError                11
    │   ├── CalibrationForeign               it was found for another model
    │   ├── CalibrationDamaged               one of the rig's state is not what was written
    │   ├── CalibrationNotKept               it can't be written to the rig's state
    │   ├── CalibrationFixed                 the rig's YAML says the threshold, and no command changes it
    │   ├── VersionMismatch                  another version is in force than who asked believed
    │   └── VersionUnknown                   the rig's state has no such version
    ├── OutboxError                     12   verdicts can't be kept
    │   ├── OutboxFull                       no room for a verdict, whatever was given up for it
    │   ├── OutboxUnwritable                 the disk refuses: an I/O error, read-only, locked
    │   ├── OutboxDamaged                    the database was found damaged while it was in use
    │   ├── OutboxForeign                    a file of another program, or of another version of this one
    │   ├── OutboxInUse                      another process has it open
    │   ├── OutboxBusy                       too much is asked of it at once
    │   ├── ResultUnknown                    there is no such verdict, or none any more
    │   └── TriggerKnown                     this trigger has been taken before: it gets no second verdict
    ├── RejectError                     13   the reject output can't be driven
    ├── TriggerError                    14   the rig can't hear what triggers it
    │   └── TriggerRefused                   this one is not taken; who fired it is told
    ├── ThreadHung                      15   a thread makes no progress: only a new process does
    ├── RecipeError                     16   a recipe can't be taken; the one that runs goes on
    │   ├── RecipeUnknown                    the rig's YAML has none of this name
    │   ├── RecipeUnfit                      its model computes something else here, or decides nothing
    │   └── RecipeOvertaken                  somebody asked for another one meanwhile
    ├── SceneError                      17   the empty tray can't be learnt, or what was learnt can't be read
    ├── RigSilent                       18   a rig that is told something over MQTT does not answer
    ├── OrderRefused                    19   it answers, and refuses
    └── (workstation)
        ├── DatasetError                 8   what lies on disk is not the data set it should be
        ├── TrainingError                9   a NaN, an empty mask, a checkpoint that does not fit
        └── ExportError                 10   a stage that can't be exported
            ├── LintFailed                       a graph that TensorRT would not build
            └── VerificationFailed               it runs, and does not give what torch gives

The number is the exit code of a command that ends with it. 0 is success and 2 is a wrong command line;
`edge-inspect` also ends with 20 (a part failed), 21 (a part got no decision, or an error) and 25 (a part is
to be reviewed), `edge-doctor` with 22 (a finding is an error), `edge-watch --once` with 23 (a rig needs a
look), `edge-calibrate check` with 24 (a promise is broken).
Each message says what is wrong, with the numbers, and how to mend it.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ArchiveInvalid",
    "BrokerError",
    "BrokerRefused",
    "BrokerUnreachable",
    "BundleCorrupt",
    "BundleError",
    "BundleInvalid",
    "CalibrationDamaged",
    "CalibrationError",
    "CalibrationFixed",
    "CalibrationForeign",
    "CalibrationNotKept",
    "CameraAway",
    "CameraError",
    "CameraFrozen",
    "CameraHung",
    "CameraLost",
    "CameraNotFound",
    "CameraOptionRefused",
    "CameraReplaced",
    "CameraStalled",
    "CameraUsbSlow",
    "CameraViewChanged",
    "CaptureError",
    "ConfigError",
    "DatasetError",
    "DepthUnitWrong",
    "DepthUnusable",
    "EdgeError",
    "ExportError",
    "FileChanged",
    "FileTooLarge",
    "FrameError",
    "GoldenInvalid",
    "GpuLost",
    "KeyUnusable",
    "LintFailed",
    "OrderRefused",
    "OutboxBusy",
    "OutboxDamaged",
    "OutboxError",
    "OutboxForeign",
    "OutboxFull",
    "OutboxInUse",
    "OutboxUnwritable",
    "PathEscapes",
    "PickleRefused",
    "RecipeError",
    "RecipeOvertaken",
    "RecipeUnfit",
    "RecipeUnknown",
    "RecordingCorrupt",
    "RejectError",
    "ResultUnknown",
    "RigSilent",
    "RunnerError",
    "SceneError",
    "SignatureBroken",
    "SignatureError",
    "SignatureMissing",
    "SignatureUntrusted",
    "ThreadHung",
    "TrainingError",
    "TriggerError",
    "TriggerKnown",
    "TriggerRefused",
    "VerificationFailed",
    "VersionMismatch",
    "VersionUnknown",
    "ZipBomb",
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
    """The camera is there but sent no frame within the time allowed, or none that is new."""


class CameraFrozen(CameraStalled):
    """The camera sends frames whose depth does not change by a single bit: a real sensor has noise."""


class CameraOptionRefused(CameraError):
    """The camera does not hold an option at the value that was set."""


class CameraUsbSlow(CameraError):
    """The camera has come up on USB 2, which does not carry depth and colour at their frame rate."""


class CameraReplaced(CameraError):
    """Another camera than the one before: model and threshold were found with that one."""


class DepthUnitWrong(CameraError):
    """The camera counts depth in another unit than before, or than the rig expects."""


class CameraViewChanged(CameraError):
    """The camera's intrinsics are not those that it had before."""


class CameraAway(CameraError):
    """The camera gives no frame for now and is being opened again; its `__cause__` is why."""


class CameraHung(CameraError):
    """A call of the camera's driver does not return; it holds the camera as long as this process lives."""


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
    """A file of the bundle is missing, is not listed, is a link, or can't be read."""


class FileChanged(BundleCorrupt):
    """A file of the bundle differs from its sha256."""


class BundleInvalid(BundleError):
    """The bundle is whole, but what its manifest says does not fit together."""


class PathEscapes(BundleInvalid):
    """The name of a file leads out of the bundle."""


class SignatureError(BundleError):
    """The bundle's signature does not let it be taken."""


class SignatureMissing(SignatureError):
    """The rig lists trusted keys, and the bundle has no signature."""


class SignatureBroken(SignatureError):
    """There is a signature, but not of these bytes, or not by the key that it names."""


class SignatureUntrusted(SignatureError):
    """The signature holds, but the rig does not list its key."""


class KeyUnusable(BundleError):
    """A file is no ed25519 key, is locked, or lies where others may read it."""


class ArchiveInvalid(BundleError):
    """A .zip can't be unpacked as a bundle."""


class ZipBomb(ArchiveInvalid):
    """A .zip, or an .npz, unpacks to more than it may."""


class GoldenInvalid(BundleError):
    """A golden sample is not what the manifest says."""


class PickleRefused(BundleError):
    """A file holds something pickled; it was not read, since reading it runs what it holds."""


class FileTooLarge(BundleError):
    """A file is larger than its kind can be; it was not read."""


class RunnerError(EdgeError):
    """A stage of the bundle could not be loaded or run."""

    exit_code = 6


class GpuLost(RunnerError):
    """An error has broken the GPU's context for as long as this process lives: it must restart."""


class BrokerError(EdgeError):
    """The MQTT broker can't be used."""

    exit_code = 7


class BrokerRefused(BrokerError):
    """The broker answered, and refused the connection or the message."""


class BrokerUnreachable(BrokerError):
    """The broker did not answer, or did not acknowledge in time."""


class CalibrationError(EdgeError):
    """A threshold can't be found, read or changed, or belongs to another model."""

    exit_code = 11


class CalibrationForeign(CalibrationError):
    """A calibration was found for another model: scores of two models can't be compared."""


class CalibrationDamaged(CalibrationError):
    """A calibration in the rig's state is not what was written there; nothing is put in its place."""


class CalibrationNotKept(CalibrationError):
    """A calibration can't be written to the rig's state; the one before stays in force."""


class CalibrationFixed(CalibrationError):
    """The rig's YAML fixes the threshold of the recipe that runs; no command changes it."""


class VersionMismatch(CalibrationError):
    """Another version of the calibration is in force than the one that who asked expected."""


class VersionUnknown(CalibrationError):
    """The rig's state has no such version of the calibration."""


class OutboxError(EdgeError):
    """Verdicts can't be kept, or the outbox is asked for what it can't do."""

    exit_code = 12


class OutboxFull(OutboxError):
    """There is no room on disk for a verdict, whatever was given up for it; it is not kept."""


class OutboxUnwritable(OutboxError):
    """The disk refuses: an I/O error, a read-only file system, another's lock; the verdict is not kept."""


class OutboxDamaged(OutboxError):
    """The database was found damaged while it was in use; the next start sets it aside."""


class OutboxForeign(OutboxError):
    """The file is another program's, or of a version of the outbox that this software does not know."""


class OutboxInUse(OutboxError):
    """Another process has the outbox open."""


class OutboxBusy(OutboxError):
    """Too much is asked of the outbox at once; what inspects comes first."""


class ResultUnknown(OutboxError):
    """There is no verdict of this id, or it is older than what is kept."""


class TriggerKnown(OutboxError):
    """A trigger of this id was taken before; one trigger gets one verdict."""


class RejectError(EdgeError):
    """The reject output can't be driven."""

    exit_code = 13


class TriggerError(EdgeError):
    """The rig can't hear what triggers it."""

    exit_code = 14


class TriggerRefused(TriggerError):
    """A trigger was not taken, and gets no verdict."""


class RecipeError(EdgeError):
    """A recipe can't be taken."""

    exit_code = 16


class RecipeUnknown(RecipeError):
    """The rig's YAML has no recipe of this name."""


class RecipeUnfit(RecipeError):
    """The recipe's model does not compute what it did on the workstation, or would decide nothing."""


class RecipeOvertaken(RecipeError):
    """Another recipe was asked for while this one was being loaded."""


class SceneError(EdgeError):
    """The empty tray can't be learnt, or what was learnt of it can't be read."""

    exit_code = 17


class RigSilent(EdgeError):
    """A rig that is told something over MQTT is not there, or does not answer in time."""

    exit_code = 18


class OrderRefused(EdgeError):
    """A rig has answered a command, and refused it."""

    exit_code = 19


class ThreadHung(EdgeError):
    """A thread of the daemon makes no progress; what it holds can't be released."""

    exit_code = 15


class DatasetError(EdgeError):
    """What lies on disk is not the data set that it should be."""

    exit_code = 8


class TrainingError(EdgeError):
    """Training can't go on."""

    exit_code = 9


class ExportError(EdgeError):
    """A stage can't be exported."""

    exit_code = 10


class LintFailed(ExportError):
    """A graph holds what TensorRT would not build."""


class VerificationFailed(ExportError):
    """A bundle differs from the torch model by more than its tolerance, or gives another verdict."""
