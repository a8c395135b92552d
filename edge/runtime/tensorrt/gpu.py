"""What a GPU is, as far as an engine that was built on it cares."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GpuIdentity", "jetson_release"]


class GpuIdentity(BaseModel):
    """One GPU and the software under it: an engine runs where it was built, and nowhere else.

    `name` as CUDA gives it ("Orin"), `sm` its compute capability ("8.7"), `driver` the version of its
    driver or of the CUDA that the driver knows ("12.6"), `platform` the release of JetPack or L4T
    ("R36.4.0"); the last two are None where they can't be found out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    sm: str = Field(pattern=r"^\d+\.\d+$")
    driver: str | None = None
    platform: str | None = None


def jetson_release(path: Path = Path("/etc/nv_tegra_release")) -> str | None:
    """The release of Jetson Linux, "R36.4.0" for JetPack 6.1; None where this is no Jetson.

    The file's first line is `# R36 (release), REVISION: 4.0, GCID: …`; one that says something else is
    given back as it is: another text is another release.
    """
    try:
        first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return None
    match = re.match(r"#\s*(R\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", first)
    return f"{match[1]}.{match[2]}" if match else first or None
