"""What every mixture law gives: losses by source with slopes, how sure they are, and draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.law import Array

Mask = NDArray[np.bool_]


class Surface(Protocol):
    """ln L of each loss as a function of shares and sizes; or draws of it, one for each input."""

    def slopes(self, inputs: Array) -> tuple[Array, Array]:
        """ln L (m, t) and its slopes by the k shares (m, t, k) at inputs (m, k + s)."""
        ...


class Fitted(Surface, Protocol):
    """A law fitted to a table."""

    def log_losses(self, inputs: Array) -> Array:
        """ln L (m, t)."""
        ...

    def spread(self, inputs: Array) -> Array:
        """Standard deviation of ln L for a new run there, up to a factor for each loss (m, t)."""
        ...

    def draws(self, count: int, rng: np.random.Generator) -> Surface:
        """A surface of which input i is answered by draw i of the law, out of `count`."""
        ...


class Law(Protocol):
    """A kind of law."""

    @property
    def name(self) -> str:
        """In a word."""
        ...

    @property
    def formula(self) -> str:
        """In a line, with its source."""
        ...

    def least_rows(self, k: int, s: int) -> int:
        """Rows below which it is not tried, for k shares and s sizes."""
        ...

    def fits(self, inputs: Array, k: int, y: Array, keep: Sequence[Mask]) -> list[Fitted]:
        """The law fitted to each choice of rows.

        Args:
            inputs: (rows, k + s); y: ln L (rows, t).
        """
        ...


@dataclass(frozen=True, slots=True)
class Scaling:
    """Centre and width of columns, so that a law sees them near 0 and of variance 1."""

    centre: Array
    width: Array

    @classmethod
    def of(cls, columns: Array) -> "Scaling":
        """The scaling of these rows; a constant column keeps its width."""
        width = columns.std(axis=0)
        return cls(columns.mean(axis=0), np.where(width > 0, width, 1.0))

    def __call__(self, columns: Array) -> Array:
        return np.asarray((columns - self.centre) / self.width)
