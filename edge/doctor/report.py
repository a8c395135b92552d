"""What the doctor says: findings, and the whole report. `edge-doctor --json` prints these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.selftest_result import SelftestResult

__all__ = [
    "SUBJECTS",
    "Detail",
    "Details",
    "Finding",
    "Level",
    "Report",
    "Subject",
    "error",
    "note",
    "ok",
    "warning",
]

Detail = str | int | float | bool | tuple[str, ...] | None
Details = dict[str, Detail]

Subject = Literal[
    "config", "platform", "memory", "packages", "camera", "gpu", "power", "access", "broker", "disk", "clock",
    "bundle", "service", "selftest",
]  # fmt: skip

SUBJECTS: Mapping[Subject, str] = {
    "config": "Rig",
    "platform": "Computer and Python",
    "memory": "Memory and processors",
    "packages": "Python packages",
    "camera": "Camera",
    "gpu": "TensorRT and CUDA",
    "power": "Power and heat",
    "access": "User, groups and devices",
    "broker": "MQTT broker",
    "disk": "Disk",
    "clock": "Clock",
    "bundle": "Model bundle",
    "service": "Service",
    "selftest": "Self-test",
}
"""Each subject and its heading, in the order of the page."""


class Level(str, Enum):
    """How bad a finding is: `warning` will bite some day, `error` keeps the rig from its work."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Finding(_Model):
    """One thing that was looked at.

    `check` names it for programs, `what` says in a sentence what is, `remedy` how to mend it; a warning or
    an error always has one. `details` are the values it rests on.
    """

    subject: Subject
    check: str = Field(pattern=r"^[a-z0-9_]+$")
    level: Level
    what: str = Field(min_length=1)
    remedy: str | None = None
    details: Details = {}

    @model_validator(mode="after")
    def _says_how_to_mend_it(self) -> Self:
        if self.level in (Level.WARNING, Level.ERROR) and not self.remedy:
            raise ValueError(f"{self.subject}/{self.check} is a {self.level.value} and has no remedy")
        return self


class Report(_Model):
    """All findings about one machine; `machine` is its board or host, `user` whose rights were looked at."""

    schema_version: Literal[1] = 1
    created: AwareDatetime
    software_version: str
    machine: str
    user: str | None
    backend: Literal["onnx", "tensorrt"]
    findings: tuple[Finding, ...]
    selftest: SelftestResult | None = None

    @property
    def counts(self) -> Mapping[Level, int]:
        """How many findings there are of each level, every level named."""
        found = Counter(finding.level for finding in self.findings)
        return {level: found[level] for level in Level}


def ok(subject: Subject, check: str, what: str, **details: Detail) -> Finding:
    """All is well."""
    return Finding(subject=subject, check=check, level=Level.OK, what=what, details=details)


def note(subject: Subject, check: str, what: str, remedy: str | None = None, **details: Detail) -> Finding:
    """Something to know; nothing to do, or only where it is wanted."""
    return Finding(subject=subject, check=check, level=Level.NOTE, what=what, remedy=remedy, details=details)


def warning(subject: Subject, check: str, what: str, remedy: str, **details: Detail) -> Finding:
    """Something that works, and may not tomorrow, or less well than it could."""
    return Finding(
        subject=subject, check=check, level=Level.WARNING, what=what, remedy=remedy, details=details
    )


def error(subject: Subject, check: str, what: str, remedy: str, **details: Detail) -> Finding:
    """Something that keeps the rig from its work."""
    return Finding(subject=subject, check=check, level=Level.ERROR, what=what, remedy=remedy, details=details)
