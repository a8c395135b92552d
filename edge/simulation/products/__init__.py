"""The products of the simulated rig, by name."""

from __future__ import annotations

from edge.errors import ConfigError
from edge.simulation.products.blob import Blob
from edge.simulation.products.lattice import Lattice
from edge.simulation.products.plate import Plate
from edge.simulation.products.product import CELL_M, GRID, Product
from edge.simulation.products.ring import Ring

__all__ = ["CELL_M", "GRID", "PRODUCTS", "Product", "product_named"]

_KINDS: dict[str, type[Product]] = {kind.name: kind for kind in (Blob, Plate, Ring, Lattice)}

PRODUCTS: tuple[str, ...] = tuple(_KINDS)
"""Names of all simulated products."""


def product_named(name: str) -> Product:
    """The product of that name; raises `ConfigError` where there is none."""
    if name not in _KINDS:
        raise ConfigError(f"no simulated product is called {name!r}; choose one of {', '.join(PRODUCTS)}")
    return _KINDS[name]()
