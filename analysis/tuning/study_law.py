"""The document of fitted laws, and a study's, which its `law.json` holds."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from analysis.law import Frozen
from analysis.table.sources import read_json
from analysis.tuning.answer import LrFit
from analysis.tuning.law import PowerLaw, TunedPoint
from analysis.tuning.rules import published_exponents
from analysis.tuning.surface import Optimum

Range = tuple[float, float]


class StudyLawError(ValueError):
    """A study's law.json cannot be used; the message names the study and the remedy."""


class Recipe(Frozen):
    """The laws of the trials and published exponents together; what a sweep trains by."""

    lr: PowerLaw
    batch: PowerLaw
    published: dict[str, str]


class SurfaceOptimum(Frozen):
    """The minimum of one surface; `curvature` is in logs of `axes`, (d, d)."""

    N: float
    D: float
    loss: float
    noise: float
    trials: int
    axes: tuple[str, ...]
    curvature: tuple[tuple[float, ...], ...]
    lr: Optimum | None = None
    batch_tokens: Optimum | None = None
    warmup_fraction: Optimum | None = None
    beta2_gap: Optimum | None = None
    weight_decay: Optimum | None = None

    @classmethod
    def of(cls, point: TunedPoint) -> Self:
        """The minimum of the surface of one size and budget."""
        surface = point.surface
        return cls(
            N=point.N,
            D=point.D,
            loss=surface.loss,
            noise=surface.noise,
            trials=len(surface.rows),
            axes=tuple(axis.name for axis in surface.axes),
            curvature=surface.curvature.tolist(),
            **surface.optima,
        )


class StudyRange(Frozen):
    """Least and largest N and D of the surfaces."""

    N: Range
    D: Range


class FittedLaws(Frozen):
    """The laws of a fit and the minima behind them.

    Attributes:
        read, doubts: of somebody else's table; see `LrFit`.
    """

    lr: PowerLaw
    batch: PowerLaw
    recipe: Recipe
    level: float
    optima: tuple[SurfaceOptimum, ...]
    support: StudyRange
    refusals: tuple[str, ...]
    advice: tuple[str, ...]
    read: dict[str, dict[str, str]] | None = None
    doubts: tuple[str, ...] = ()

    @classmethod
    def of(cls, fit: LrFit, **study: str) -> Self:
        """The laws of a fit, and what else a study knows."""
        sizes, budgets = [point.N for point in fit.points], [point.D for point in fit.points]
        published = {name: known.words for name, known in published_exponents().items()}
        laws = {
            "lr": fit.lr,
            "batch": fit.batch,
            "recipe": Recipe(lr=fit.recipe_lr, batch=fit.recipe_batch, published=published),
            "level": fit.level,
            "optima": [SurfaceOptimum.of(point) for point in fit.points],
            "support": {"N": (min(sizes), max(sizes)), "D": (min(budgets), max(budgets))},
            "refusals": fit.refusals,
            "advice": fit.advice,
        }
        if fit.read:
            laws |= {"read": read_json(fit.read), "doubts": fit.doubts}
        return cls.model_validate(laws | study)

    def document(self) -> dict[str, Any]:
        """Plain data: what --json prints."""
        return self.model_dump(mode="json", exclude_unset=True)


class StudyLaw(FittedLaws):
    """A study's laws and the corpus they hold for.

    Attributes:
        data: digest of the corpus.
    """

    study: str
    data: str

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
        return {"study": self.study, "data": self.data, **super().document()}

    def text(self) -> str:
        """The content of law.json; floats keep every digit."""
        return json.dumps(self.document(), indent=1, allow_nan=False)

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
