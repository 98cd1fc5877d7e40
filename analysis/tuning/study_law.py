"""The laws of a finished study as its `law.json` holds them."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from analysis.law import Frozen
from analysis.tuning.answer import LrFit

Range = tuple[float, float]


class StudyLawError(ValueError):
    """A study's law.json cannot be used; the message names the study and the remedy."""


class PowerLaw(Frozen):
    """coef · N^exponent_N · D^exponent_D; None where the trials do not identify a constant."""

    coef: float | None
    exponent_N: float | None = None
    exponent_D: float | None
    intervals: dict[str, Range | None]
    points: int
    reasons: tuple[str, ...]

    def at(self, N: float, D: float) -> float | None:
        """The value at N and D; None without a coefficient."""
        if self.coef is None:
            return None
        return float(self.coef * N ** (self.exponent_N or 0.0) * D ** (self.exponent_D or 0.0))


class Recipe(Frozen):
    """The laws of the trials and published exponents together; what a sweep trains by."""

    lr: PowerLaw
    batch: PowerLaw
    published: dict[str, str]


class AxisOptimum(Frozen):
    """The best value of one searched parameter; an interval's end is None where open."""

    value: float
    interval: tuple[float | None, float | None]
    edge: str | None


class SurfaceOptimum(Frozen):
    """The minimum of one surface; `curvature` is in logs of `axes`, (d, d)."""

    N: float
    D: float
    loss: float
    noise: float
    trials: int
    axes: tuple[str, ...] = ()
    curvature: tuple[tuple[float, ...], ...] = ()
    lr: AxisOptimum | None = None
    batch_tokens: AxisOptimum | None = None
    warmup_fraction: AxisOptimum | None = None
    beta2_gap: AxisOptimum | None = None
    weight_decay: AxisOptimum | None = None


class StudyRange(Frozen):
    """Least and largest N and D of the surfaces."""

    N: Range
    D: Range


class StudyLaw(Frozen):
    """A study's laws, the minima behind them, and the corpus they hold for.

    Attributes:
        data: digest of the corpus.
        recipe: None in files written before recipes started from published exponents.
    """

    study: str
    data: str
    lr: PowerLaw
    batch: PowerLaw
    recipe: Recipe | None = None
    level: float
    optima: tuple[SurfaceOptimum, ...]
    support: StudyRange
    refusals: tuple[str, ...]
    advice: tuple[str, ...]

    @classmethod
    def of(cls, study: str, data: str, fit: LrFit) -> Self:
        """The laws of a fit."""
        return cls.model_validate({"study": study, "data": data, **fit.as_json()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read TUNES/STUDY/law.json.

        Raises:
            StudyLawError: the file is missing, is not JSON, or does not hold a study's laws.
        """
        study = path.parent.name
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            reason = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                reason = f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"
            raise StudyLawError(
                f"study {study}: {path} holds no law of a study ({reason}). "
                f"Write it again from the study's trials: isoflop tune {study}"
            ) from error

    def document(self) -> dict[str, Any]:
        """Plain data: what `isoflop tune --json` prints and `law.json` holds."""
        return self.model_dump(mode="json", exclude_unset=True)

    def text(self) -> str:
        """The content of law.json; floats keep every digit."""
        return json.dumps(self.document(), indent=1, allow_nan=False)

    def require_recipe(self) -> Recipe:
        """The recipe.

        Raises:
            StudyLawError: the file is older than recipes.
        """
        if self.recipe is None:
            raise StudyLawError(
                f"study {self.study} was fitted before studies had a recipe. "
                f"Add it from the study's trials: isoflop tune {self.study}"
            )
        return self.recipe

    def numbers(self) -> dict[str, float]:
        """The constants that the trials identify, by name."""
        constants = {
            "lr_coef": self.lr.coef,
            "lr_exponent_N": self.lr.exponent_N,
            "lr_exponent_D": self.lr.exponent_D,
            "batch_coef": self.batch.coef,
            "batch_exponent_D": self.batch.exponent_D,
        }
        return {name: value for name, value in constants.items() if value is not None}
