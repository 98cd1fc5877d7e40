"""Commands tune and fit-lr."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def fit_lr(
    file: str,
    *,
    mapping: Annotated[list[str] | None, Parameter(name="--map", negative="")] = None,
    level: float = 0.9,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    report: Path | None = None,
) -> None:
    """Fit the laws of learning rate and batch to a table of trials.

    Args:
        file: CSV, TSV, Parquet or JSON with N, D, lr, batch and loss, one row a finished trial.
        mapping: HOUSE=THEIRS names a column, for example --map lr=peak_lr. Repeatable.
        level: of every interval.
        json: write JSON to this file, - for standard output.
        report: write an HTML page with every figure.
    """
    from analysis.lr_fit import fit_lr as fit
    from analysis.lr_fit import read_lr_table
    from analysis.observations import TableError
    from flows.cli import fail
    from flows.output import check_destination, emit

    if not 0 < level < 1:
        fail(f"--level {level} must lie between 0 and 1, for example 0.9.")
    try:
        if json is not None:
            check_destination(json)
        found = fit(read_lr_table(Path(file), mapping=pairs(mapping or [])), level=level)
    except (TableError, ValueError) as error:
        fail(str(error))
    print(found.lr, found.batch)
    if json is not None:
        emit(found.as_json(), json)
