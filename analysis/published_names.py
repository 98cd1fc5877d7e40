"""Names in the published tables, read without the libraries that read their numbers."""

import csv
from importlib.resources import files


def published_names(table: str, column: str = "name") -> list[str]:
    """A column of one of the tables in `analysis/tables/`, from top to bottom."""
    with files("analysis").joinpath("tables", f"{table}.csv").open(encoding="utf-8") as file:
        return [row[column] for row in csv.DictReader(file)]
