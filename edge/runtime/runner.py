"""The interface of a backend: a bundle's tensors in, its anomaly map out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from edge.bundle import ANOMALY_MAP, Bundle
from edge.errors import RunnerError
from edge.preprocessing import tensor_shapes

__all__ = ["Array", "Runner"]

Array = npt.NDArray[np.generic]


class Runner(ABC):
    """Runs the stages of one bundle. One thread owns a runner. Also a context manager."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        offered = tensor_shapes(bundle.manifest.preprocessing)
        self._expected = {name: offered[name] for name in sorted(bundle.wanted)}

    def run(self, tensors: Mapping[str, Array], fetch: Sequence[str] = (ANOMALY_MAP,)) -> dict[str, Array]:
        """The tensors named in `fetch` (of any stage), from those of the frame.

        Raises `RunnerError` where an input or a result is missing or has another dtype or shape, or a
        stage fails.
        What comes out may be NaN or infinite: it is the inspector that judges it.
        """
        for name, (dtype, shape) in self._expected.items():
            given = tensors.get(name)
            if given is None:
                raise RunnerError(f"the bundle asks for tensor {name!r}; given are {sorted(tensors)}")
            if given.dtype != dtype or given.shape != shape:
                raise RunnerError(f"tensor {name!r} is {given.dtype}{given.shape}, must be {dtype}{shape}")
        unknown = [name for name in fetch if name not in self.bundle.manifest.tensors]
        if unknown:
            raise RunnerError(f"no stage gives {unknown}; there are {sorted(self.bundle.manifest.tensors)}")
        results = self._run({name: tensors[name] for name in self._expected}, fetch)
        for name in fetch:
            made, spec = results[name], self.bundle.manifest.tensors[name]
            if made.dtype != spec.dtype or made.shape != spec.shape:
                raise RunnerError(
                    f"tensor {name!r} came out as {made.dtype}{made.shape}, the manifest says "
                    f"{spec.dtype}{spec.shape}; export the bundle anew"
                )
        return results

    @abstractmethod
    def _run(self, tensors: Mapping[str, Array], fetch: Sequence[str]) -> dict[str, Array]:
        """What a backend writes: inputs are complete and of the right dtype and shape."""

    @abstractmethod
    def close(self) -> None:
        """Free what the backend holds; harmless when called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
