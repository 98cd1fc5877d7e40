"""Score registered forecasts against the ends of our own runs."""

from dataclasses import dataclass
from datetime import UTC, datetime

from analysis.words import short
from flows.forecasts.registered import Registered, Scored, read_forecasts, read_scores, score
from flows.runs.directory import RunDir
from flows.settings import Home
from sweeps.spec import PlannedRun


@dataclass(frozen=True, slots=True)
class End:
    """The loss of a finished run at one of its horizons, and when the run recorded it."""

    n_params: int
    tokens: int
    loss: float
    at: datetime


def ends(planned: PlannedRun, run: RunDir) -> list[End]:
    """Every loss of a run that has finished; none before that."""
    result = run.result()
    if result is None or result.status != "finished":
        return []
    recorded = {horizon: row["at"] for horizon, row in run.curve.evals().items()}
    return [
        End(
            planned.n_params,
            each.tokens,
            each.val_loss,
            # A curve that was lost has no times: all ends are then as late as the run's.
            datetime.fromtimestamp(recorded.get(each.tokens, result.finished_at), UTC),
        )
        for each in result.observations
    ]


def check_run(forecast: Registered, run: RunDir, home: Home) -> list[Scored]:
    """Score every foretold point of a run's N and D.

    Raises:
        ValueError: the run has not finished, no point is of its N and D, or it reached the loss
            before the forecast was written.
    """
    planned = run.planned()
    run_ends = ends(planned, run)
    where = f"--run {planned.sweep}/{planned.name}"
    if not run_ends:
        result = run.result()
        state = "has not finished" if result is None else f"{result.status}: {result.reason}"
        raise ValueError(f"{where}: {state}. Only a finished run scores a forecast.")
    pairs = matches(forecast, run_ends)
    if not pairs:
        points = "; ".join(
            f"N = {short(p.n_params)}, D = {short(p.tokens)}" for p in forecast.points
        )
        reached = ", ".join(short(end.tokens) for end in run_ends)
        raise ValueError(
            f"{where}: it has N = {short(planned.n_params)} and D = {reached}, and {forecast.name} "
            f"foretells {points}. Give the run of that N and D."
        )
    early = [end for _, end in pairs if end.at <= forecast.written_at]
    if early:
        raise ValueError(
            f"{where}: it reached its loss at {_utc(early[0].at)}, before {forecast.name} was "
            f"written at {_utc(forecast.written_at)}; that is no forecast. Register before the run."
        )
    return [
        score(forecast, point, end.loss, home, run_id=run.id, reached_at=end.at)
        for point, end in pairs
    ]


def check_pending(home: Home) -> list[tuple[Registered, list[Scored]]]:
    """Score every forecast of a sweep's run that has finished since."""
    return [
        (forecast, scores)
        for forecast in read_forecasts(home)
        if forecast.run_id is not None and not read_scores(forecast.name, home)
        if (scores := score_own(forecast, home))
    ]


def score_own(forecast: Registered, home: Home) -> list[Scored]:
    """Score a sweep's forecast if its run has finished, and after it was written."""
    assert forecast.run_id is not None
    run = RunDir(home.runs / forecast.run_id)
    if not run.finished():
        return []
    return [
        score(forecast, point, end.loss, home, run_id=run.id, reached_at=end.at)
        for point, end in matches(forecast, ends(run.planned(), run))
        if end.at > forecast.written_at
    ]


def matches(forecast: Registered, run_ends: list[End]) -> list[tuple[int, End]]:
    """Foretold points, by their places, with the end of the same N and D."""
    return [
        (place, end)
        for place, point in enumerate(forecast.points)
        for end in run_ends
        if point.is_of(end.n_params, end.tokens)
    ]


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
