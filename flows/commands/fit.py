"""`isoflop fit`: a law, its intervals and its verdicts from a table of finished runs."""

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    import polars as pl

    from analysis.fit import GroupFit


def fit(
    file: str,
    *,
    form: Literal["chinchilla", "gamma", "tied", "kaplan", "data_constrained"] = "chinchilla",
    objective: Literal["huber_log", "lad_log", "mse_log", "mse"] = "huber_log",
    delta: float = 1e-3,
    by: str | None = None,
    where: str | None = None,
    mapping: Annotated[list[str] | None, Parameter(name="--map")] = None,
    pool: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
    target_flops: float | None = None,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    report: Path | None = None,
) -> None:
    """Fit a loss law to a table of runs or a sweep.

    Args:
        file: CSV, TSV, Parquet or JSON, one row a finished run; or the name of a sweep.
        form: chinchilla E + A/N^alpha + B/D^beta; gamma raises the sum of powers to gamma; tied
            sets alpha = beta; kaplan has no E; data_constrained needs unique_tokens.
        objective: what is summed over rows.
        delta: where Huber's penalty turns from squares to absolute values.
        by: column; one law for each of its values.
        where: polars SQL filter, for example "tokens > 1e9 AND NOT outlier".
        mapping: HOUSE=THEIRS names a column, for example --map val_loss=eval_nll. Repeatable.
        pool: fit rows of several experiments together.
        bootstrap: resamples; 0 for none.
        seed: of the resampling.
        level: of every interval.
        target_flops: budget for the profiles of N* and D*; ten times the table's largest.
        json: write JSON to this file, - for standard output.
        report: write an HTML page with every figure.
    """
    from analysis.fit import fit_table
    from analysis.observations import TableError
    from flows.cli import fail

    if not 0 < level < 1:
        fail(f"--level {level} must lie between 0 and 1, for example 0.9.")
    if bootstrap < 0 or seed < 0:
        fail(f"--bootstrap {bootstrap} and --seed {seed} must not be negative.")
    if not delta > 0:
        fail(f"--delta {delta} must be positive.")
    if target_flops is not None and not 0 < target_flops < float("inf"):
        fail(f"--target-flops {target_flops} must be positive.")
    try:
        groups = fit_table(
            _table(file, _mapping(mapping or [])),
            by=by,
            where=where,
            pool=pool,
            form=form,
            objective=objective,
            delta=delta,
            bootstrap=bootstrap,
            seed=seed,
            level=level,
            target_flops=target_flops,
            source=file,
        )
    except TableError as error:
        fail(str(error))
    document = {"groups": [group.as_json() for group in groups]}
    if report is not None:
        _write_report(groups, file, report)
    if json == "-":
        print(jsonlib.dumps(document, allow_nan=False))
        return
    if json is not None:
        _write(Path(json), jsonlib.dumps(document, allow_nan=False))
    _print(groups)


def _table(file: str, mapping: dict[str, str]) -> "pl.DataFrame":
    """The file's table, or the observations of the sweep of that name."""
    from analysis.observations import TableError, read_table
    from flows.settings import Home, Settings

    path = Path(file)
    if path.exists() or path.suffix:
        return read_table(path, mapping=mapping)
    home = Home(Settings().home.expanduser().absolute())
    observed = home.sweeps / file / "observations.parquet"
    if not observed.is_file():
        raise TableError(
            f"{file} is neither a file nor a sweep with observations in {home.root}. "
            f"Train it with: isoflop sweep {file}"
        )
    return read_table(observed, mapping=mapping)


def _mapping(pairs: list[str]) -> dict[str, str]:
    from flows.cli import fail

    mapping: dict[str, str] = {}
    for pair in pairs:
        house, separator, theirs = pair.partition("=")
        if not (separator and house and theirs):
            fail(f"--map {pair!r} should read HOUSE=THEIRS, for example --map val_loss=eval_nll.")
        if house in mapping:
            fail(f"--map names {house!r} twice: {mapping[house]!r} and {theirs!r}.")
        mapping[house.strip()] = theirs.strip()
    return mapping


def _write(path: Path, text: str) -> None:
    from flows.cli import fail

    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}.")


def _write_report(groups: "list[GroupFit]", file: str, path: Path) -> None:
    from analysis.fit_report import fit_page
    from flows.cli import fail

    try:
        fit_page(groups, title=f"Loss law of {Path(file).name}").write(path)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}.")
    print(f"report: {path}", file=sys.stderr)


def _print(groups: "list[GroupFit]") -> None:
    from analysis.fit_text import group_lines

    for place, group in enumerate(groups):
        if place:
            print()
        for line in group_lines(group):
            print(line)
