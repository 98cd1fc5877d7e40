"""Every observation of a sweep, to filter and to sort."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import polars as pl
from dash import html
from dash.development.base_component import Component

from analysis.table.observations import Table
from analysis.words import counted, flops, rate
from flows.dashboard import controls
from flows.dashboard.address import Address
from flows.dashboard.render import Cell, aria, link, table
from flows.dashboard.screens.law import SubjectScreen
from flows.mirror.addresses import run_addresses

_MOST_ROWS = 500
# Columns of the runs' table: key of the query, words, column of the frame.
_COLUMNS = (
    ("run", "run", "name"),
    ("n", "N", "n_params"),
    ("d", "D tokens", "tokens"),
    ("ratio", "D/N", "ratio"),
    ("c", "C counted FLOPs", "train_flops"),
    ("loss", "loss, nats/token", "val_loss"),
    ("bpb", "bits/byte", "val_bpb"),
    ("lr", "peak lr", "lr"),
    ("batch", "batch, tokens", "batch_tokens"),
    ("state", "state", "status"),
    ("fit", "in the fit", "fit"),
)


class RunsScreen(SubjectScreen):
    """Every observation of the sweep, to filter and to sort."""

    def controls(self) -> list[Component]:
        """The filter."""
        words = "Show rows that hold these words, such as finished or d64"
        return [*super().controls(), controls.search("q", words, self.address.get("q"))]

    def body(self) -> list[Component]:
        """The table, and how many of its rows it shows."""
        rows = self._rows()
        shown = rows.head(_MOST_ROWS)
        count = f"{rows.height} of {counted(self.table().frame.height, 'observation')}"
        if shown.height < rows.height:
            count += f", of which the first {_MOST_ROWS} are shown"
        order, reasons = self._order(), (shown["fit"] != "used").any()
        columns, shares, mlflow = self._columns(), self._shares(), self._mlflow(shown)
        at = next(place for place, (key, _, _) in enumerate(columns) if key == order[0])
        href = str(self.address.with_path("data", "runs", *self.address.path))
        data = html.A("data (CSV)", href=href, download="runs.csv")
        return [
            html.P(f"{count}.", role="status"),
            table(
                [
                    *(self._heading(key, words) for key, words, _ in columns),
                    *(["MLflow"] if mlflow else []),
                ],
                [
                    [
                        *self._cells(row),
                        *("–" if row[name] is None else f"{row[name]:.3f}" for name in shares),
                        *([_page_of(row, mlflow)] if mlflow else []),
                    ]
                    for row in shown.iter_rows(named=True)
                ],
                classes=[*[""] * 9, "words", "words long" if reasons else "words"],
                label="observations of the sweep",
                sorted_by=(at, "descending" if order[1] else "ascending"),
            ),
            html.Div(data, className="beside"),
        ]

    def csv(self, figure: str) -> str:
        """The rows as they are filtered and sorted, with every column."""
        return self._rows().write_csv()

    def _mlflow(self, rows: pl.DataFrame) -> dict[str, str]:
        """MLflow's pages of the runs that it has, by their ids."""
        settings, home = self.desk.settings, self.desk.library.home
        runs_of: dict[str, list[Path]] = {}
        for sweep, run in rows.select("sweep", "parent_run_id").unique().iter_rows():
            # The runs of a variant are mirrored with the whole sweep.
            runs_of.setdefault(sweep.partition("/")[0], []).append(home.runs / run)
        pages: dict[str, str] = {}
        for sweep, runs in runs_of.items():
            pages |= run_addresses(sweep, runs, settings, home)
        return pages

    def _shares(self) -> list[str]:
        """The columns of a mixture's shares; none of another sweep."""
        columns = self.table().frame.columns
        if "mixture" not in columns:
            return []
        return [name for name in columns if name.startswith("share_")]

    def _columns(self) -> list[tuple[str, str, str]]:
        """Key of the query, words and column of the frame; of mixtures with their shares."""
        shares = (
            (name, f"share of {name.removeprefix('share_')}", name) for name in self._shares()
        )
        return [*_COLUMNS, *shares]

    def _order(self) -> tuple[str, bool]:
        """The key of the column the rows are sorted by, and whether they fall."""
        keys = [key for key, _, _ in self._columns()]
        given = self.address.get("sort", "n")
        return (given.lstrip("-") if given.lstrip("-") in keys else "n", given.startswith("-"))

    def _heading(self, key: str, words: str) -> Component:
        by, falls = self._order()
        arrow = f" {'▼' if falls else '▲'}" if key == by else ""
        to = f"-{key}" if key == by and not falls else key
        return link(f"{words}{arrow}", str(self.address.with_query(sort=to)))

    def table(self) -> Table:
        """The observations, N and C as they came."""
        return self.subject.table()

    def _rows(self) -> pl.DataFrame:
        key, falls = self._order()
        column = next(column for each, _, column in self._columns() if each == key)
        rows = self.table().frame.with_columns(
            (pl.col("tokens") / pl.col("n_params")).alias("ratio"),
            pl.col("excluded_reason").fill_null("used").alias("fit"),
        )
        for word in self.address.get("q").lower().split():
            texts = [pl.col(name).fill_null("") for name in ("name", "status", "fit", "run_id")]
            text = pl.concat_str(texts, separator=" ").str.to_lowercase()
            rows = rows.filter(text.str.contains(word, literal=True))
        return rows.sort(column, "tokens", descending=[falls, False], nulls_last=True)

    def _cells(self, row: dict[str, Any]) -> Sequence[Cell]:
        return [
            link(str(row["name"]), str(Address(("run", str(row["parent_run_id"]))))),
            f"{row['n_params']:,}",
            f"{row['tokens']:,}",
            f"{row['ratio']:.3g}",
            flops(cast(float, row["train_flops"])),
            "–" if row["val_loss"] is None else f"{row['val_loss']:.4f}",
            "–" if row["val_bpb"] is None else f"{row['val_bpb']:.4f}",
            rate(row["lr"]),
            f"{row['batch_tokens']:,}",
            str(row["status"]),
            str(row["fit"]),
        ]


def _page_of(row: dict[str, Any], pages: Mapping[str, str]) -> Cell:
    """A link to MLflow's page of a row's run."""
    page, words = pages.get(str(row["parent_run_id"])), f"{row['name']} in MLflow"
    return "–" if page is None else html.A("open", href=page, **aria(label=words))
