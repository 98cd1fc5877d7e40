"""The terms that a mixture law is a sum of, each as its logarithm u with its derivatives.

r are the shares, n and d are ln N and ln D less their means.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from analysis.law import Array

# A share has this much added, so that slopes by one of zero are finite.
_LEAST_SHARE = 1e-5
# Where the powers of N and D start.
_POWER = 0.3


class Term(Protocol):
    """The logarithm of a term, under constants (b, count) at inputs (m or b, m; k or s)."""

    def count(self, k: int) -> int:
        """How many constants."""
        ...

    def start(self, k: int, size: float) -> Array:
        """Constants for which the term is about exp(size) everywhere."""
        ...

    def log(self, constants: Array, shares: Array, sizes: Array) -> Array:
        """(b, m)."""
        ...

    def with_jacobian(self, constants: Array, shares: Array, sizes: Array) -> tuple[Array, Array]:
        """`log`, and its derivatives by the constants (b, m, count)."""
        ...


class Constant:
    """u = c."""

    def count(self, k: int) -> int:
        return 1

    def start(self, k: int, size: float) -> Array:
        return np.array([size])

    def log(self, constants: Array, shares: Array, sizes: Array) -> Array:
        return constants + 0 * shares[..., 0]

    def with_jacobian(self, constants: Array, shares: Array, sizes: Array) -> tuple[Array, Array]:
        log = self.log(constants, shares, sizes)
        return log, np.ones((*log.shape, 1))


class Exponential:
    """u = Σ t_j r_j."""

    def count(self, k: int) -> int:
        return k

    def start(self, k: int, size: float) -> Array:
        return np.full(k, size)

    def log(self, constants: Array, shares: Array, sizes: Array) -> Array:
        return _dot(shares, constants)

    def with_jacobian(self, constants: Array, shares: Array, sizes: Array) -> tuple[Array, Array]:
        log = self.log(constants, shares, sizes)
        return log, np.broadcast_to(shares, (*log.shape, shares.shape[-1]))


class Powers:
    """u = -ln Σ C_j r_j^γ_j, in ln C_j and ln γ_j."""

    def count(self, k: int) -> int:
        return 2 * k

    def start(self, k: int, size: float) -> Array:
        return np.concatenate([np.full(k, -size), np.full(k, np.log(0.5))])

    def log(self, constants: Array, shares: Array, sizes: Array) -> Array:
        return -log_sum(self._logs(constants, shares))

    def with_jacobian(self, constants: Array, shares: Array, sizes: Array) -> tuple[Array, Array]:
        logs = self._logs(constants, shares)
        k = logs.shape[-1]
        most = logs.max(axis=-1, keepdims=True)
        parts = np.exp(logs - most)
        total = parts.sum(axis=-1, keepdims=True)
        parts /= -total
        slopes = np.concatenate([parts, parts * (logs - constants[:, None, :k])], axis=-1)
        return -(np.log(total) + most)[..., 0], slopes

    def _logs(self, constants: Array, shares: Array) -> Array:
        k = shares.shape[-1]
        return np.asarray(
            constants[:, None, :k] + np.exp(constants[:, None, k:]) * np.log(shares + _LEAST_SHARE)
        )


@dataclass(frozen=True, slots=True)
class Size:
    """u = a - x·exp(g) for a size x."""

    place: int

    def count(self, k: int) -> int:
        return 2

    def start(self, k: int, size: float) -> Array:
        return np.array([size, np.log(_POWER)])

    def log(self, constants: Array, shares: Array, sizes: Array) -> Array:
        return constants[:, :1] - np.exp(constants[:, 1:]) * sizes[..., self.place]

    def with_jacobian(self, constants: Array, shares: Array, sizes: Array) -> tuple[Array, Array]:
        slope = -np.exp(constants[:, 1:]) * sizes[..., self.place]
        return constants[:, :1] + slope, np.stack([np.ones_like(slope), slope], axis=-1)


@dataclass(frozen=True, slots=True)
class MixedSize:
    """u = γ·ln Σ C_j r_j - x·exp(g) for a size x, in ln C_j, γ and g."""

    place: int

    def count(self, k: int) -> int:
        return k + 2

    def start(self, k: int, size: float) -> Array:
        return np.concatenate([np.full(k, size), [1.0, np.log(_POWER)]])

    def log(self, constants: Array, shares: Array, sizes: Array) -> Array:
        total = (np.exp(constants[:, None, :-2]) * shares).sum(axis=-1)
        power = np.exp(constants[:, -1:]) * sizes[..., self.place]
        return np.asarray(constants[:, -2:-1] * np.log(total) - power)

    def with_jacobian(self, constants: Array, shares: Array, sizes: Array) -> tuple[Array, Array]:
        weighted = np.exp(constants[:, None, :-2]) * shares
        total = weighted.sum(axis=-1, keepdims=True)
        gamma, power = constants[:, None, -2:-1], np.exp(constants[:, -1:]) * sizes[..., self.place]
        slopes = [gamma * weighted / total, np.log(total), -power[..., None]]
        return (gamma * slopes[1])[..., 0] - power, np.concatenate(slopes, axis=-1)


def _dot(shares: Array, constants: Array) -> Array:
    return np.asarray((shares @ constants[..., None])[..., 0])


def log_sum(logs: Array) -> Array:
    """ln Σ exp over the last axis, complex ones too."""
    most = logs.real.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(logs - most).sum(axis=-1)) + most[..., 0])
