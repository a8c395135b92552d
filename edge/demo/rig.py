"""The rig of the demo: which parts, which bundle, and the YAML that the daemon is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from edge.bundle import Bundle, load_bundle
from edge.errors import ConfigError
from edge.simulation.products import PRODUCTS

__all__ = ["DemoRig", "packaged_bundle"]

_RIG = {"enterprise": "demo", "site": "here", "area": "desk", "line": "simulated", "cell": "d405"}


def packaged_bundle() -> Path:
    """The bundle that comes with the package."""
    return Path(__file__).parent / "bundle"


@dataclass(frozen=True, slots=True)
class DemoRig:
    """`parts` simulated parts of the bundle's product, `defective_share` of them bad, drawn from `seed`.

    All that the run leaves behind goes below `folder`, which is absolute.
    """

    bundle: Bundle
    folder: Path
    parts: int
    seed: int
    defective_share: float = 0.5

    @classmethod
    def prepare(cls, bundle_path: Path, folder: Path, *, parts: int, seed: int) -> DemoRig:
        """Check that it can be, and make the folder.

        Raises `BundleError` for the bundle, `ConfigError` where the simulation does not know its product,
        where it was trained on the parts of this very seed, and where the folder can't be had.
        """
        bundle = load_bundle(bundle_path.absolute())
        if bundle.product not in PRODUCTS:
            raise ConfigError(
                f"{bundle_path}: is for {bundle.product!r}; the simulated rig has {', '.join(PRODUCTS)}"
            )
        if str(seed) in _train_seeds(bundle):
            raise ConfigError(
                f"--seed {seed}: this bundle was trained on the parts of that seed, and knowing them again "
                "proves nothing; choose another"
            )
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"--out {folder}: holds something already; name a new folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"--out {folder}: can't be made ({error.strerror}); name another folder"
            ) from error
        return cls(bundle=bundle, folder=folder.absolute(), parts=parts, seed=seed)

    @property
    def topics(self) -> str:
        """What to subscribe to, to hear all of this rig."""
        return "/".join([*_RIG.values(), "inspection", "#"])

    @property
    def truth(self) -> Path:
        """The folder into which the simulated camera writes what it showed."""
        return self.folder / "truth"

    @property
    def train_seed(self) -> str | None:
        """The seeds of the simulated parts that the bundle was trained on; None where it does not say."""
        return ", ".join(sorted(_train_seeds(self.bundle))) or None

    def write_yaml(self, host: str, port: int, page_port: int) -> Path:
        """The configuration for `edge-daemon`: the broker's address, and the port of its page.

        Raises `ConfigError` where it can't be written.
        """
        config = {
            "rig": _RIG,
            "camera": {
                "source": "simulated",
                "product": self.bundle.product,
                "seed": self.seed,
                "parts": self.parts,
                "defective_share": self.defective_share,
                "truth_to": str(self.truth),
                # A small computer may take its time for a part; that is no stalled camera.
                "read_timeout_s": 30,
            },
            "bundle": str(self.bundle.path),
            "broker": {"host": host, "port": port},
            "dashboard": {"port": page_port},
            "daemon": {"state_dir": str(self.folder / "state"), "max_frame_age_s": 30},
        }
        path = self.folder / "rig.yaml"
        try:
            path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: can't be written ({error.strerror})") from error
        return path


def _train_seeds(bundle: Bundle) -> set[str]:
    """The seeds in the provenance: one number, or several with commas between them."""
    said = str(bundle.manifest.provenance.get("train_seed", ""))
    return {seed.strip() for seed in said.split(",") if seed.strip()}
