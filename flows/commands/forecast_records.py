"""Options of `isoflop forecast` for forecasts that are written down: register, check, list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.commands.common import open_all, open_to_read, say
from flows.commands.options import RECORDS, forecast_names, run_names

if TYPE_CHECKING:
    from analysis.forecast.answer import Answer
    from analysis.table.observations import Table
    from flows.forecasts.registered import Registered, Scored
    from flows.settings import Home

Names = Annotated[list[str] | None, Parameter(consume_multiple=True, completer=forecast_names)]


@Parameter(name="*", group=RECORDS)
@dataclass(frozen=True)
class Records:
    """What is written down before a run, and scored after it.

    Attributes:
        register: name under which the foretold losses are written into the home, for good.
        run: a finished run of this home, by id, name or SWEEP/NAME, for --check.
        loss: the loss of a run that was trained elsewhere, for --check.
        list: show every registered forecast with its outcome.
    """

    register: str | None = None
    check: Annotated[
        Names,
        Parameter(
            help="registered forecasts to score by --run or --loss; without a name those of the "
            "run, or those that a sweep registered and whose runs have finished"
        ),
    ] = None
    run: Annotated[str | None, Parameter(completer=run_names)] = None
    loss: float | None = None
    list: bool = False


NO_RECORDS = Records()


def answer_from_records(
    records: Records, file: str | None, at: Sequence[str], json: str | None
) -> None:
    """Do what --check or --list asks; refuse a command without a table that asks neither.

    Raises:
        ValueError: options that do not go together, or a forecast that cannot be scored.
    """
    if records.check is None and not records.list:
        raise ValueError("give a table of finished runs, a sweep's name, --check or --list.")
    option = "--list" if records.list else "--check"
    others = {"--check": records.check is not None, "--register": records.register is not None}
    for other in (name for name, given in others.items() if given and name != option):
        raise ValueError(f"{option} and {other} are two questions: give one.")
    if file is not None:
        behind = f" Names stand behind it: --check {file}." if option == "--check" else ""
        raise ValueError(f"{option} reads the home and takes no table.{behind}")
    if records.list:
        list_forecasts(json)
    else:
        check(records, at, json)


def check_register(records: Records, by: str | None, *, asked: bool) -> None:
    """Refuse, before anything is read or computed, what cannot be registered.

    Args:
        asked: whether runs to foretell were given.

    Raises:
        ValueError: no points, several groups, or a name that is taken or none; --run or --loss
            without --check.
    """
    for option, value in (("--run", records.run), ("--loss", records.loss)):
        if value is not None:
            raise ValueError(f"{option} {value} scores a forecast: add --check NAME.")
    if records.register is None:
        return
    if not asked:
        raise ValueError(
            f"--register {records.register} writes foretold losses: add --at N,D or --points FILE."
        )
    if by is not None:
        raise ValueError(
            f"--register {records.register} takes one forecast, --by {by} makes several: choose "
            "one with --where."
        )
    from flows.forecasts.registered import check_name

    check_name(records.register, open_to_read())


def register(name: str, answer: "Answer", table: "Table", source: str) -> None:
    """Write the answer's points into the home, and say how they are scored.

    Raises:
        ValueError: the name was taken meanwhile.
    """
    from flows.forecasts.registered import new_forecast, write_forecast

    _, home = open_all()
    write_forecast(new_forecast(name, answer, answer.points, table, source), home)
    say(
        f"registered {name}; when its run has finished: isoflop forecast --check {name} --loss L, "
        "or --run RUN for a run of this home"
    )


def check(records: Records, at: Sequence[str], json: str | None) -> None:
    """Score forecasts and print their outcomes.

    Args:
        at: the foretold point that reached the loss, where the forecast has several.
    """
    from flows.commands.output import emit, print_wrapped

    names, run, loss = records.check or [], records.run, records.loss
    if run is not None and loss is not None:
        raise ValueError("--run and --loss both give the loss: give one.")
    _, home = open_all()
    if loss is not None:
        scored = [_by_loss(names, loss, at, home)]
    elif run is not None:
        scored = _by_run(names, run, home)
    else:
        scored = _by_themselves(names, home)
    if json is not None:
        emit([_row(forecast, each) for forecast, scores in scored for each in scores], json)
    if json == "-":
        return
    for forecast, scores in scored:
        for each in scores:
            print_wrapped(_outcome_line(forecast, each))
    if not scored:
        print("nothing to score: no run that a sweep foretold has finished since.")


def list_forecasts(json: str | None) -> None:
    """Print every forecast of the home with its outcome."""
    from flows.commands.output import emit, table
    from flows.forecasts.registered import read_forecasts, read_scores

    home = open_to_read()
    rows = []
    for forecast in read_forecasts(home):
        scores = read_scores(forecast.name, home)
        for place in range(len(forecast.points)):
            own = [each for each in scores if each.point == place]
            rows += [_row(forecast, each) for each in own] or [_row(forecast, None, place)]
    if json is not None:
        emit(rows, json)
    if json == "-":
        return
    if not rows:
        print("no forecast is registered: isoflop forecast TABLE --at N,D --register NAME")
        return
    header = ["name", "written", "N", "D tokens", "foretold", "interval", "level", "loss", "error"]
    table(_title(rows), [*header, "outcome"], [_cells(row) for row in rows])


def _by_loss(
    names: Sequence[str], loss: float, at: Sequence[str], home: "Home"
) -> "tuple[Registered, list[Scored]]":
    from analysis.forecast.points import read_pair
    from flows.forecasts.registered import score

    if not 0 < loss < float("inf"):
        raise ValueError(f"--loss {loss} must be positive, for example 2.31.")
    if len(names) != 1:
        raise ValueError(f"--loss {loss} needs one forecast: --check NAME --loss {loss}.")
    forecast = _named(names[0], home)
    pairs = [read_pair(text) for text in at]
    places = [
        place
        for place, point in enumerate(forecast.points)
        if not pairs or any(point.is_of(*pair) for pair in pairs)
    ]
    if len(places) != 1:
        raise ValueError(
            f"--loss {loss}: {forecast.name} foretells {_points(forecast)}. Say which one reached "
            "it with --at N,D."
        )
    return forecast, [score(forecast, places[0], loss, home)]


def _by_run(
    names: Sequence[str], reference: str, home: "Home"
) -> "list[tuple[Registered, list[Scored]]]":
    from flows.forecasts.ends import check_run, ends, matches
    from flows.forecasts.registered import read_forecasts
    from flows.plans.find import find_run

    run = find_run(reference, home)
    if names:
        forecasts = [_named(name, home) for name in names]
        return [(forecast, check_run(forecast, run, home)) for forecast in forecasts]
    run_ends = ends(run.planned(), run)
    forecasts = [
        forecast
        for forecast in read_forecasts(home)
        if forecast.run_id in (None, run.id) and (not run_ends or matches(forecast, run_ends))
    ]
    if not forecasts:
        raise ValueError(
            f"--run {reference}: no registered forecast is of its N and D. See those there are: "
            "isoflop forecast --list."
        )
    # Of forecasts of one N and D, those from before the run are scored.
    early = [
        forecast for forecast in forecasts if all(end.at > forecast.written_at for end in run_ends)
    ]
    return [(forecast, check_run(forecast, run, home)) for forecast in early or forecasts[:1]]


def _by_themselves(names: Sequence[str], home: "Home") -> "list[tuple[Registered, list[Scored]]]":
    from flows.forecasts.ends import check_pending, score_own
    from flows.forecasts.registered import read_scores

    if not names:
        return check_pending(home)
    scored = []
    for name in names:
        forecast = _named(name, home)
        if forecast.run_id is not None:
            score_own(forecast, home)
        scores = read_scores(name, home)
        if not scores:
            raise ValueError(
                f"--check {name}: {_points(forecast)} has no loss yet. Give it: --run RUN for a "
                "run of this home, or --loss L."
            )
        scored.append((forecast, scores))
    return scored


def _named(name: str, home: "Home") -> "Registered":
    from flows.forecasts.registered import read_forecast, read_forecasts
    from flows.plans.find import other_kind

    forecast = read_forecast(name, home)
    if forecast is None:
        known = ", ".join(each.name for each in read_forecasts(home)) or "none yet"
        other = other_kind(name, home) or f"There: {known}."
        raise ValueError(f"--check {name}: no such forecast in {home.forecasts}. {other}")
    return forecast


def _points(forecast: "Registered") -> str:
    from analysis.words import short

    return "; ".join(
        f"N = {short(point.n_params)}, D = {short(point.tokens)}" for point in forecast.points
    )


def _row(forecast: "Registered", scored: "Scored | None", place: int = 0) -> dict[str, Any]:
    """A foretold point and its outcome as a document; null where it is pending."""
    point = forecast.points[place if scored is None else scored.point]
    row = {
        "name": forecast.name,
        "written_at": forecast.written_at.isoformat(),
        "source": forecast.source,
        **point.model_dump(),
        "outcome": "pending" if scored is None else "hit" if scored.inside else "miss",
    }
    names = ("run_id", "error_percent", "winkler")
    return row | {
        "actual": None if scored is None else scored.loss,
        **{name: None if scored is None else getattr(scored, name) for name in names},
    }


def _outcome_line(forecast: "Registered", scored: "Scored") -> str:
    from analysis.words import short

    point = forecast.points[scored.point]
    return (
        f"{forecast.name}: N={short(point.n_params)}, D={short(point.tokens)} foretold "
        f"{point.loss:.4f} [{point.lower:.4f}, {point.upper:.4f}, {point.level:.0%}], reached "
        f"{scored.loss:.4f}: {'hit' if scored.inside else 'miss'}, error "
        f"{scored.error_percent:+.2f} %, Winkler {scored.winkler:.3g} %"
    )


def _cells(row: dict[str, Any]) -> list[object]:
    from analysis.words import short

    pending = row["actual"] is None
    return [
        row["name"],
        row["written_at"][:16].replace("T", " "),
        short(row["n_params"]),
        short(row["tokens"]),
        f"{row['loss']:.4f}",
        f"{row['lower']:.4f} to {row['upper']:.4f}",
        f"{row['level']:.0%}",
        "–" if pending else f"{row['actual']:.4f}",
        "–" if pending else f"{row['error_percent']:+.2f} %",
        row["outcome"] if row["calibrated"] else f"{row['outcome']}, not calibrated",
    ]


def _title(rows: list[dict[str, Any]]) -> str:
    scored = [row for row in rows if row["actual"] is not None]
    pending = f"{len(rows) - len(scored)} pending"
    if not scored:
        return f"Forecasts: {pending}"
    hits = sum(row["outcome"] == "hit" for row in scored)
    error = sum(abs(row["error_percent"]) for row in scored) / len(scored)
    return f"Forecasts: {hits} of {len(scored)} hit, error {error:.2g} %; {pending}"
