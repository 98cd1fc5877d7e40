"""The views of a sweep: its answer with curves, valleys and law, and its runs."""

import time
from collections.abc import Sequence
from typing import cast

import polars as pl
from dash import html
from dash.development.base_component import Component

from analysis.fit.conventions import count_columns, counted_as
from analysis.fit.isoflop import fit_isoflop
from analysis.law import CCounts, NCounts
from analysis.page import Page
from analysis.sweep.answer import Findings
from analysis.sweep.page import add_curves, add_largest, add_law, add_valleys
from analysis.table.observations import COUNTS as N_COUNTS
from analysis.table.observations import Table
from analysis.table.runs import own_table
from analysis.words import COUNTS, FLOPS, flops, short
from flows.dashboard import controls, python_lines
from flows.dashboard.address import Address
from flows.dashboard.answers import sweep_findings
from flows.dashboard.fits import Outcome
from flows.dashboard.library import SweepSeen
from flows.dashboard.render import Cell, link, table
from flows.dashboard.screen import Desk, NotHereError, Screen
from flows.forecasts.by_sweep import said_before
from flows.runs.state import TO_DO
from flows.runs.table import observations_frame
from flows.watch.progress import ago, progress_cells

TABS = {"": "Law", "runs": "Runs"}
_MOST_ROWS = 500


class SweepScreen(Screen):
    """What the views of a sweep share."""

    def __init__(self, desk: Desk, address: Address) -> None:
        super().__init__(desk, address)
        name = address.path[1]
        sweep = desk.library.sweep(name)
        if sweep is None:
            raise NotHereError(f"no sweep {name!r} in {desk.library.home.root}.")
        self.sweep: SweepSeen = sweep
        self.title = f"Sweep {name}"
        self.unsettled = any(not run.settled for run in sweep.runs)

    def stamp(self) -> str:
        """The state of its files, and whether its fit is there."""
        return f"{self.sweep.stamp} {self.outcome().awaited}"

    def frame(self) -> pl.DataFrame:
        """Its observations, those of sweeps it continues among them."""
        return self.desk.frames.get(
            self.sweep.name,
            self.sweep.stamp,
            lambda: observations_frame(self.sweep.whole.plan.runs, self.desk.library.home),
        )

    def table(self) -> Table:
        """Its table under the counts that the address names."""
        return counted_as(own_table(self.frame()), *self.counts())

    def counts(self) -> tuple[str, CCounts]:
        """What N and C count in the address."""
        n = self.address.choice("n", ("n_params", "n_params_total", "n_params_non_embedding"))
        c = self.address.choice("c", ("train_flops", "flops_6nd"))
        return n, cast(CCounts, c)

    def outcome(self) -> Outcome[Findings]:
        """The answer of the sweep, which is computed in the background."""
        name, home = self.sweep.name, self.desk.library.home
        question = ("sweep", name, self.counts())
        state = self.sweep.losses
        if (known := self.desk.fits.peek(question, state)) is not None:
            return known
        registered = said_before(self.sweep.plan, home)
        source = f"sweep {name}"
        arguments = (self.frame(), self.counts(), source, registered)
        return self.desk.fits.get(question, state, sweep_findings, *arguments)

    def python(self, figure: str) -> str | None:
        """The lines that draw one of its figures."""
        home = self.desk.library.home.root
        lines = python_lines.of_sweep(home, self.sweep.name, self.counts())
        return python_lines.python_of(figure, lines)

    def head(self) -> list[Component]:
        """What stands above every view of the sweep."""
        return [self.tabs(TABS)]

    def controls(self) -> list[Component]:
        """The other views, and the switch of counts."""
        return [*self.head(), counts_switch(own_table(self.frame()).used, self.counts())]


class LawScreen(SweepScreen):
    """The answer first, then progress and curves, valleys, law and residuals."""

    def make_page(self) -> Page:
        """The sweep's report as far as it is known."""
        page = Page(self.title)
        outcome = self.outcome()
        if outcome.note:
            page.text(outcome.note, role="warn" if outcome.failure else "busy")
        if self.unsettled:
            self._progress(page)
        findings = outcome.value
        if findings is not None and findings.group is not None:
            add_law(page, findings.group, findings.lead)
        else:
            if findings is not None:
                page.text(f"There is no law yet. {findings.refusal}", role="lead")
            used = self.table().used
            add_valleys(page, used, fit_isoflop(used), counts=self._counted(), withheld=True)
        if findings is not None and findings.largest is not None:
            add_largest(page, findings.largest)
        for sentence in self.sweep.whole.sentences:
            page.text(sentence, role="soft")
        curves = self.desk.library.curves(self.sweep.whole.plan.runs)
        if not curves.is_empty():
            add_curves(page, curves)
        return page

    def _counted(self) -> tuple[NCounts, CCounts]:
        table = self.table()
        return table.n_counts, table.c_counts

    def _progress(self, page: Page) -> None:
        sweep = self.sweep
        finished = sweep.count("finished")
        failed = len(sweep.runs) - finished - sweep.count("training", *TO_DO)
        page.key_figures(
            [
                (f"{finished} of {len(sweep.runs)}", "runs finished"),
                (str(sweep.count("training")), "training now"),
                (str(sweep.count(*TO_DO)), "to do"),
                (str(failed), "failed"),
            ]
        )
        training = [run.progress for run in sweep.runs if run.progress.state == "training"]
        if training:
            page.table(
                ["run", "N", "step", "of", "loss, nats/token", "tokens/s", "MFU", "left"],
                [
                    [
                        *(run.name, short(run.n_params), f"{run.step:,}", f"{run.steps:,}"),
                        *progress_cells(run),
                    ]
                    for run in training
                ],
            )


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
    ("batch", "batch", "batch_tokens"),
    ("state", "state", "status"),
    ("fit", "in the fit", "fit"),
)


class RunsScreen(SweepScreen):
    """Every observation of the sweep, to filter and to sort."""

    def controls(self) -> list[Component]:
        """The filter."""
        words = "Show rows that hold these words, such as finished or d64"
        return [*self.head(), controls.search("q", words, self.address.get("q"))]

    def body(self) -> list[Component]:
        """The table, and how many of its rows it shows."""
        rows = self._rows()
        shown = rows.head(_MOST_ROWS)
        count = f"{rows.height} of {self.frame().height} observations"
        if shown.height < rows.height:
            count += f", of which the first {_MOST_ROWS} are shown"
        order = self._order()
        at = next(place for place, (key, _, _) in enumerate(_COLUMNS) if key == order[0])
        href = str(self.address.with_path("data", "runs", *self.address.path))
        data = html.A("data (CSV)", href=href, download="runs.csv")
        return [
            html.P(f"{count}.", role="status"),
            table(
                [self._heading(key, words) for key, words, _ in _COLUMNS],
                [self._cells(row) for row in shown.iter_rows(named=True)],
                classes=[*[""] * 9, "words", "words long"],
                label="observations of the sweep",
                sorted_by=(at, "descending" if order[1] else "ascending"),
            ),
            html.Div(data, className="beside"),
        ]

    def csv(self, figure: str) -> str:
        """The rows as they are filtered and sorted, with every column."""
        return self._rows().write_csv()

    def _order(self) -> tuple[str, bool]:
        """The key of the column the rows are sorted by, and whether they fall."""
        keys = [key for key, _, _ in _COLUMNS]
        given = self.address.get("sort", "n")
        return (given.lstrip("-") if given.lstrip("-") in keys else "n", given.startswith("-"))

    def _heading(self, key: str, words: str) -> Component:
        by, falls = self._order()
        arrow = f" {'▼' if falls else '▲'}" if key == by else ""
        to = f"-{key}" if key == by and not falls else key
        return link(f"{words}{arrow}", str(self.address.with_query(sort=to)))

    def _rows(self) -> pl.DataFrame:
        key, falls = self._order()
        column = next(column for each, _, column in _COLUMNS if each == key)
        rows = self.frame().with_columns(
            (pl.col("tokens") / pl.col("n_params")).alias("ratio"),
            pl.col("excluded_reason").fill_null("used").alias("fit"),
        )
        for word in self.address.get("q").lower().split():
            texts = [pl.col(name).fill_null("") for name in ("name", "status", "fit", "run_id")]
            text = pl.concat_str(texts, separator=" ").str.to_lowercase()
            rows = rows.filter(text.str.contains(word, literal=True))
        return rows.sort(column, "tokens", descending=[falls, False], nulls_last=True)

    def _cells(self, row: dict[str, object]) -> Sequence[Cell]:
        return [
            link(str(row["name"]), str(Address(("run", str(row["parent_run_id"]))))),
            f"{row['n_params']:,}",
            f"{row['tokens']:,}",
            f"{row['ratio']:.3g}",
            flops(cast(float, row["train_flops"])),
            "–" if row["val_loss"] is None else f"{row['val_loss']:.4f}",
            "–" if row["val_bpb"] is None else f"{row['val_bpb']:.4f}",
            f"{row['lr']:.2e}",
            f"{row['batch_tokens']:,}",
            str(row["status"]),
            str(row["fit"]),
        ]


def counts_switch(used: pl.DataFrame, counts: tuple[str, CCounts]) -> Component:
    """The switch of what N and C count, as far as the table has them."""
    columns = count_columns(used) if used.height else ["n_params"]
    words = {column: COUNTS[N_COUNTS[column]] for column in columns}
    flops_words = {"train_flops": "counted", "flops_6nd": FLOPS["flops_6nd"]}
    return html.Div(
        [
            controls.choice("n", "N counts", words, counts[0]),
            controls.choice("c", "C is", flops_words, counts[1]),
        ],
        className="controls",
    )


def age(changed_at: float) -> str:
    """How long ago a file was written."""
    return ago(max(0.0, time.time() - changed_at)) if changed_at else "–"
