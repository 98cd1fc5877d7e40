"""Registered forecasts of a home: HOME/forecasts/NAME.json, and NAME.scores.jsonl beside it.

A forecast is written whole and never again; each of its scores is a line that is appended.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, ValidationError

from analysis.law import ForecastForm
from analysis.own_runs.outcome import Interval, outcome
from flows.files import append_line, file_lock, read_lines, read_or_warn, write_whole
from flows.runs.provenance import environment
from flows.settings import Home
from llama_core.config import Frozen

if TYPE_CHECKING:
    from analysis.forecast.answer import Answer, ForecastPoint
    from analysis.table.observations import Table

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ForetoldPoint(Frozen):
    """The loss foretold for a run of N parameters and D tokens."""

    n_params: float
    tokens: float
    loss: float
    lower: float
    upper: float
    level: float
    calibrated: bool

    @property
    def interval(self) -> Interval:
        """The loss with its interval."""
        return Interval(self.loss, self.lower, self.upper)

    def is_of(self, n_params: float, tokens: float) -> bool:
        """Whether it foretells a run of this N and D, given to three digits or better.

        One per cent of N or D moves a loss by less than a tenth of a per cent.
        """
        return all(
            abs(ours / theirs - 1) <= 0.01
            for ours, theirs in ((self.n_params, n_params), (self.tokens, tokens))
        )


class Registered(Frozen):
    """A forecast as it was written.

    Attributes:
        source: what the table was called.
        table_sha256: see `table_sha256`.
        rows: rows the forecast learnt from.
        sigma, tau: scales of noise and of the law's error, in ln L.
        isoflop: the version that made it.
        run_id: the run whose end it foretells, where a sweep registered it.
    """

    name: str
    source: str
    table_sha256: str
    rows: int
    form: ForecastForm
    sigma: float
    tau: float
    points: tuple[ForetoldPoint, ...]
    isoflop: str
    git_commit: str | None
    written_at: AwareDatetime
    run_id: str | None = None


class Scored(Frozen):
    """A loss beside its forecast, see `analysis.own_runs.outcome.Outcome`.

    Attributes:
        point: place of the foretold point in the forecast, from 0.
        run_id: the run of this home that reached the loss; None where a person gave the loss.
        reached_at: when the run recorded the loss.
    """

    point: int
    loss: float
    run_id: str | None
    inside: bool
    error_percent: float
    winkler: float
    reached_at: AwareDatetime | None
    scored_at: AwareDatetime


def table_sha256(table: "Table") -> str:
    """Digest of N, D and loss of the used rows; their order does not matter."""
    used = table.used.select("n_params", "tokens", "val_loss")
    lines = sorted(f"{float(N)!r},{float(D)!r},{float(L)!r}" for N, D, L in used.rows())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def new_forecast(
    name: str,
    answer: "Answer",
    points: "tuple[ForecastPoint, ...]",
    table: "Table",
    source: str,
    run_id: str | None = None,
) -> Registered:
    """Points of an answer, the table behind them and what made them, as of now."""
    return Registered(
        name=name,
        source=source,
        table_sha256=table_sha256(table),
        rows=answer.data.rows,
        form=answer.form,
        sigma=answer.posterior.sigma,
        tau=answer.posterior.tau,
        points=tuple(
            ForetoldPoint(
                n_params=point.n_params, tokens=point.tokens, loss=point.loss, lower=point.lower,
                upper=point.upper, level=answer.level, calibrated=point.calibrated,
            )
            for point in points
        ),
        isoflop=version("isoflop"),
        git_commit=environment(None).git_commit,
        written_at=datetime.now(UTC),
        run_id=run_id,
    )  # fmt: skip


def check_name(name: str, home: Home) -> None:
    """Raise ValueError where no forecast can be written under a name."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"--register {name!r}: a name has up to 100 letters, digits, dots, dashes and "
            "underscores, and begins with a letter or digit."
        )
    if _path(name, home).exists():
        raise ValueError(
            f"--register {name}: a forecast with this name exists and is not overwritten. "
            f"Choose another name, or score it: isoflop forecast --check {name}."
        )


def write_forecast(forecast: Registered, home: Home) -> None:
    """Write a forecast.

    Raises:
        ValueError: the name is taken, or is none.
    """
    with _lock(home):
        check_name(forecast.name, home)
        write_whole(_path(forecast.name, home), forecast.model_dump_json(indent=1))


def read_forecast(name: str, home: Home) -> Registered | None:
    """The forecast of that name; None, and a line in the log where its file is damaged."""
    return read_or_warn(_path(name, home), Registered, "its forecast is skipped")


def read_forecasts(home: Home) -> list[Registered]:
    """Every forecast of a home, the oldest first."""
    names = [path.name.removesuffix(".json") for path in home.forecasts.glob("*.json")]
    forecasts = [read_forecast(name, home) for name in names]
    return sorted(filter(None, forecasts), key=lambda forecast: forecast.written_at)


def own_forecasts(home: Home) -> dict[str, Registered]:
    """The forecasts of a sweep's runs, by the run's id."""
    return {each.run_id: each for each in read_forecasts(home) if each.run_id is not None}


def read_scores(name: str, home: Home) -> list[Scored]:
    """The scores of a forecast, in the order in which they were appended."""
    rows = read_lines(_scores(name, home), is_row=_is_score)
    return [Scored.model_validate(row) for row, _ in rows]


def score(
    forecast: Registered,
    point: int,
    loss: float,
    home: Home,
    *,
    run_id: str | None = None,
    reached_at: datetime | None = None,
) -> Scored:
    """Score a point and append it; a run is scored once, so that its first score comes back."""
    foretold = forecast.points[point]
    result = outcome(loss, foretold.interval, foretold.level)
    scored = Scored(
        point=point,
        loss=loss,
        run_id=run_id,
        inside=result.inside,
        error_percent=result.error_percent,
        winkler=result.winkler,
        reached_at=reached_at,
        scored_at=datetime.now(UTC),
    )
    with _lock(home):
        for earlier in read_scores(forecast.name, home):
            if run_id is not None and (earlier.point, earlier.run_id) == (point, run_id):
                return earlier
        append_line(_scores(forecast.name, home), scored.model_dump(mode="json"))
    return scored


def _path(name: str, home: Home) -> Path:
    return home.forecasts / f"{name}.json"


def _scores(name: str, home: Home) -> Path:
    return home.forecasts / f"{name}.scores.jsonl"


def _is_score(row: object) -> bool:
    try:
        Scored.model_validate(row)
    except ValidationError:
        return False
    return True


@contextmanager
def _lock(home: Home) -> Iterator[None]:
    home.forecasts.mkdir(parents=True, exist_ok=True)
    with file_lock(home.forecasts / "lock"):
        yield
