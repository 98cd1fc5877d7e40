"""A loss law: its constants at full precision, what they were fitted on, and its arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

Array = NDArray[np.float64]
Form = Literal["chinchilla", "gamma", "tied", "kaplan", "data_constrained"]
ForecastForm = Literal["chinchilla", "gamma"]
# What N counts. `unknown` is an honest answer for a paper that does not say.
NCounts = Literal["n_params", "n_params_total", "n_params_non_embedding", "unknown"]
# What C counts: counted FLOPs, or 6·N·D with the N above.
CCounts = Literal["train_flops", "flops_6nd"]
LossUnit = Literal["nats_per_token", "bits_per_byte", "unknown"]


class Frozen(BaseModel):
    """Immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Support(Frozen):
    """The box of training FLOPs and tokens per parameter that the data cover."""

    flops: tuple[PositiveFloat, PositiveFloat]
    tokens_per_param: tuple[PositiveFloat, PositiveFloat]

    def contains(self, N: ArrayLike, D: ArrayLike, C: ArrayLike) -> NDArray[np.bool_]:
        """Whether (C, D/N) lies in the box; shaped like the broadcast of the arguments."""
        C, ratio = np.asarray(C, float), np.asarray(D, float) / np.asarray(N, float)
        inside = (self.flops[0] <= C) & (self.flops[1] >= C)
        inside &= (self.tokens_per_param[0] <= ratio) & (ratio <= self.tokens_per_param[1])
        return np.asarray(inside)


class Repetition(Frozen):
    """How repeated tokens and excess parameters lose value (Muennighoff et al. 2023, eq. 5, 6)."""

    R_D: PositiveFloat
    R_N: PositiveFloat


# Forms of a law of repeated data, and the constants of each; analysis/repeated_data.py has them.
RepeatedForm = Literal["half_lives", "penalty", "bounded"]
REPEATED_CONSTANTS: dict[RepeatedForm, tuple[str, ...]] = {
    "half_lives": ("E", "A", "B", "alpha", "beta", "R_D", "R_N"),
    "penalty": ("E", "A", "B", "alpha", "beta", "P", "delta", "kappa"),
    "bounded": ("E", "L0", "a", "b", "c", "alpha", "beta", "gamma", "delta"),
}


class RepeatedLaw(Frozen):
    """A loss law L(N, D, U) of D tokens seen of which U are unique.

    Attributes:
        constants: by name, as `REPEATED_CONSTANTS` has them.
        source: the runs it was fitted to.
        most_epochs: how often they read their data at most.
        doubts: what must be read before any answer by it.
        draws: bootstrap draws of the constants by name, equally long; empty without a bootstrap.
    """

    form: RepeatedForm
    constants: dict[str, Annotated[float, Field(ge=0)]]
    source: str
    most_epochs: PositiveFloat
    doubts: tuple[str, ...] = ()
    draws: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, repr=False, exclude_if=lambda draws: not draws
    )

    @model_validator(mode="after")
    def _constants_are_the_forms(self) -> Self:
        names = REPEATED_CONSTANTS[self.form]
        for given in (self.constants, self.draws or self.constants):
            if names != tuple(given):
                raise ValueError(
                    f"form {self.form} has the constants {', '.join(names)}, not {', '.join(given)}"
                )
        if len({len(column) for column in self.draws.values()}) > 1:
            raise ValueError("bootstrap draws differ in length")
        return self


class Trust(Frozen):
    """What a fit knew against its law's optima, in sentences that stand before any of them.

    Attributes:
        bars: no N* is given under such a law unless it is asked for with --anyway.
        warnings: the optima may be read, with care.
    """

    bars: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Every sentence, the worst first."""
        return (*self.bars, *self.warnings)


class LossLaw(Frozen):
    """L(N, D) = E + (A/N^alpha + B/D^beta)^gamma, with its provenance.

    The forms are one family: `chinchilla` has gamma = 1 (Hoffmann et al. 2022, eq. 2), `tied`
    has alpha = beta as well (Gadre et al. 2024), `kaplan` has E = 0 and beta = 1 (Kaplan et al.
    2020, eq. 1.5, with gamma = alpha_D and alpha = alpha_N/alpha_D), `gamma` leaves all free.
    `data_constrained` adds `repetition`.

    Attributes:
        draws: bootstrap draws of the constants by name, equally long; empty without a bootstrap.
        support: where the data were; None when the source does not say.
        trust: what its fit knew against it; nothing for a published law.
        repeated: what its own runs say of repeated data, where some repeat theirs.
    """

    name: str
    form: Form
    E: float = Field(ge=0)
    A: PositiveFloat
    B: PositiveFloat
    alpha: PositiveFloat
    beta: PositiveFloat
    gamma: PositiveFloat = 1.0
    repetition: Repetition | None = None
    n_counts: NCounts
    c_counts: CCounts
    loss_unit: LossUnit
    source: str
    support: Support | None = None
    trust: Trust = Trust()
    repeated: RepeatedLaw | None = Field(default=None, exclude_if=lambda repeated: repeated is None)
    draws: dict[str, tuple[float, ...]] = Field(default_factory=dict, repr=False)

    @model_validator(mode="after")
    def _form_holds(self) -> Self:
        if self.form in ("chinchilla", "tied", "data_constrained") and self.gamma != 1.0:
            raise ValueError(f"form {self.form} has gamma = 1, not {self.gamma}")
        if self.form == "tied" and self.alpha != self.beta:
            raise ValueError(f"form tied has alpha = beta, not {self.alpha} and {self.beta}")
        if (self.form == "data_constrained") != (self.repetition is not None):
            raise ValueError("repetition belongs to the form data_constrained, and to no other")
        if len({len(column) for column in self.draws.values()}) > 1:
            raise ValueError("bootstrap draws differ in length")
        return self

    @property
    def exponent_N(self) -> float:
        """N* ~ C^exponent_N under C = 6·N·D: beta/(alpha + beta) (Hoffmann et al. 2022, eq. 4)."""
        return float(Constants.of(self).exponent_N)

    @property
    def exponent_D(self) -> float:
        """D* ~ C^exponent_D under C = 6·N·D: alpha/(alpha + beta)."""
        return float(Constants.of(self).exponent_D)

    def loss(self, N: ArrayLike, D: ArrayLike) -> Array:
        """Loss at N parameters and D tokens, all of them fresh; broadcast shape."""
        return Constants.of(self).loss(N, D)

    @property
    def formula(self) -> str:
        """The law with its constants to five digits."""
        inner = f"{self.A:.5g}/N^{self.alpha:.4f} + {self.B:.5g}/D^{self.beta:.4f}"
        if self.gamma != 1.0:
            inner = f"({inner})^{self.gamma:.4f}"
        text = f"L = {self.E:.5g} + {inner}" if self.E > 0 else f"L = {inner}"
        if self.repetition is not None:
            text += f", R_D = {self.repetition.R_D:.4g}, R_N = {self.repetition.R_N:.4g}"
        return text

    def with_warnings(self, *warnings: str) -> Self:
        """The same law with more to read before its optima."""
        trust = Trust(bars=self.trust.bars, warnings=(*self.trust.warnings, *warnings))
        return self.model_copy(update={"trust": trust})

    def save(self, path: Path) -> None:
        """Write as JSON; floats keep every digit."""
        path.write_text(self.model_dump_json(indent=1))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            pydantic.ValidationError: not a law.
        """
        return cls.model_validate_json(path.read_text())


@dataclass(frozen=True)
class Constants:
    """Constants of laws as arrays that broadcast: 0-d for a law, (draws,) or (draws, 1) for draws.

    Attributes:
        R_D, R_N: half-lives of repeated data; None where the form has none.
    """

    E: Array
    A: Array
    B: Array
    alpha: Array
    beta: Array
    gamma: Array
    R_D: Array | None = None
    R_N: Array | None = None

    @classmethod
    def of(cls, law: "Law") -> "Constants":
        """The point estimate; constants pass through."""
        if isinstance(law, Constants):
            return law
        repetition = law.repetition.model_dump() if law.repetition else {}
        values = {name: getattr(law, name) for name in CONSTANTS} | repetition
        return cls(**{name: np.asarray(value, float) for name, value in values.items()})

    @classmethod
    def of_draws(cls, law: LossLaw) -> Self:
        """The bootstrap draws, one row each; a constant without draws keeps its value.

        Raises:
            ValueError: the law carries no draws.
        """
        if not law.draws:
            raise ValueError(f"{law.name} carries no bootstrap draws: refit it with a bootstrap.")
        rows = len(next(iter(law.draws.values())))
        columns = {name: law.draws.get(name, (getattr(law, name),) * rows) for name in CONSTANTS}
        columns |= {name: law.draws[name] for name in ("R_D", "R_N") if name in law.draws}
        return cls(**{name: np.asarray(c, float)[:, np.newaxis] for name, c in columns.items()})

    @property
    def exponent_N(self) -> Array:
        """N* ~ C^exponent_N under C = 6·N·D: beta/(alpha + beta) (Hoffmann et al. 2022, eq. 4)."""
        return np.asarray(self.beta / (self.alpha + self.beta))

    @property
    def exponent_D(self) -> Array:
        """D* ~ C^exponent_D under C = 6·N·D: alpha/(alpha + beta)."""
        return np.asarray(self.alpha / (self.alpha + self.beta))

    def loss(self, N: ArrayLike, D: ArrayLike) -> Array:
        """Loss at N parameters and D fresh tokens."""
        N, D = np.asarray(N, float), np.asarray(D, float)
        return np.asarray(self.E + (self.A * N**-self.alpha + self.B * D**-self.beta) ** self.gamma)

    def compute_optimal(self, C: ArrayLike) -> tuple[Array, Array]:
        """Parameters and tokens of least loss under C = 6·N·D, in closed form.

        N* = G·(C/6)^(beta/(alpha + beta)) with G = (alpha·A/(beta·B))^(1/(alpha + beta)), and
        D* = C/(6·N*) (Hoffmann et al. 2022, eq. 4); every gamma shares them.

        Args:
            C: training FLOPs above zero, broadcast against the constants.
        """
        log_product = np.log(np.asarray(C, float) / 6)
        log_ratio = np.log(self.alpha) + np.log(self.A) - np.log(self.beta) - np.log(self.B)
        log_N = log_ratio / (self.alpha + self.beta) + self.exponent_N * log_product
        # A law of vanishing exponents has no finite optimum: keep it within floating point.
        log_N = np.clip(log_N, -FARTHEST, FARTHEST)
        return np.exp(log_N), np.exp(log_product - log_N)

    def rows(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> "Constants":
        """The draws marked in `keep`, shape (draws,), or at these places."""
        return Constants(**{name: column[keep] for name, column in self._columns().items()})

    def named(self) -> dict[str, Array]:
        """The constants by name, then `exponent_N` and `exponent_D`."""
        return self._columns() | {"exponent_N": self.exponent_N, "exponent_D": self.exponent_D}

    def _columns(self) -> dict[str, Array]:
        columns = {name: getattr(self, name) for name in (*CONSTANTS, "R_D", "R_N")}
        return {name: column for name, column in columns.items() if column is not None}


# What a frontier can be computed for: a law, or the constants of its draws.
Law = LossLaw | Constants
CONSTANTS = ("E", "A", "B", "alpha", "beta", "gamma")  # of every form
FARTHEST = 300.0  # of ln N*


def constants_of(form: Form) -> tuple[str, ...]:
    """The constants of a form, without gamma where that is always 1."""
    return CONSTANTS if form in ("gamma", "kaplan") else CONSTANTS[:-1]


# A poor fit is a status; an impossible one raises.
FitStatus = Literal["converged", "at_bound", "not_converged"]
IntervalMethod = Literal["bootstrap_rows", "bootstrap_runs", "none"]


@dataclass(frozen=True, slots=True)
class Excluded:
    """A row of the table that a fit left out, and why; its line where the source has lines."""

    row: int
    reason: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectiveReport:
    """What was minimised, and how reliably its minimum was found.

    Attributes:
        delta: Huber's threshold; None for the other objectives.
        value: the sum over rows of weight times penalty, at the optimum.
        gradient_norm: of that sum in (ln E, ln A, ln B, alpha, beta), logs of N and D centred,
            coordinates on a bound left out; for lad_log of the Lagrangian.
        starts, starts_agree: how many starts were run and how many ended at the optimum.
        second_best: the next basin's value when it is within 5 %, else None.
        at_start: constants that ended exactly where their start had put them.
    """

    name: str
    delta: float | None
    reduction: Literal["sum"]
    value: float
    gradient_norm: float
    starts: int
    starts_agree: int
    second_best: float | None
    second_best_exponent_N: float | None
    at_start: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of the constants and of what follows from them, by name.

    Attributes:
        values: the intervals of `method`.
        standard_errors: of `method`.
        beside: other methods' intervals, by method and name: `information` and `sandwich`.
    """

    level: float
    method: IntervalMethod
    values: Mapping[str, tuple[float, float]]
    standard_errors: Mapping[str, float]
    beside: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)


def deviations(level: float) -> float:
    """How many standard deviations the central interval of a normal distribution reaches."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def central(draws: Array, level: float) -> tuple[float, float]:
    """The middle `level` of the draws, equal shares left out at both ends."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class LawFit:
    """A fitted law with everything needed to judge it.

    Attributes:
        at_bound: constants on the edge of what was searched; `E` when the data drive it to 0.
        rows_used: positions in the table, from 0.
        draws: bootstrap draws, each (draws,); None without a bootstrap.
    """

    law: LossLaw
    status: FitStatus
    objective: ObjectiveReport
    at_bound: tuple[str, ...]
    rows_used: tuple[int, ...]
    rows_excluded: tuple[Excluded, ...]
    intervals: Intervals
    draws: Constants | None
