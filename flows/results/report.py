"""Write a sweep's table, law and page from its run directories; no training."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from analysis.own_runs.largest_budget import LargestBudget, largest_json
from analysis.sweep.answer import Findings, find, numbers, verdict
from analysis.sweep.page import sweep_page
from analysis.table.runs import own_table
from analysis.words import counted, flops
from flows.files import write_whole
from flows.forecasts.by_sweep import said_before, score_sweep
from flows.mirror.publish import Mirror
from flows.plans.joined import Joined, joined
from flows.plans.plan import sweep_folder
from flows.plans.rounds import Rounds, read_rounds
from flows.results.export import encoded
from flows.results.mixtures import mixed, repetition_sentences
from flows.results.rounds import add_design, design_sentences
from flows.results.variants import (
    compared,
    scans_frame,
    scans_json,
    variants_page,
    variants_sentences,
)
from flows.runs.directory import RunDir
from flows.runs.state import not_finished
from flows.runs.table import curves, observations_frame
from flows.settings import Home
from flows.tuning.check import add_tuned, tuned
from llama_core.corpus.prepared import PreparedCorpus, find_corpus
from llama_core.files import write_durably
from sweeps.plan import Plan, members


@dataclass(frozen=True, slots=True)
class SweepReport:
    """The results of a sweep.

    Attributes:
        page: the HTML file.
        verdict: a few lines for a terminal.
        warnings: what must be read before the numbers; the verdict begins with them.
        numbers: the law's, for the tracker.
        no_law: its losses are too few for one.
        largest: how the largest budget was foretold.
        design: how the runs were chosen; None where the whole grid was trained.
        unfinished: why runs have no loss: a sentence for the cap, if it refused any, and one for
            each run.
        scans: of the variants' learning rates, as plain data.
        mixtures: the law of the shares and the best of them, as `isoflop mix --json` has them.
    """

    page: Path
    verdict: str
    warnings: tuple[str, ...]
    numbers: dict[str, float]
    no_law: bool = False
    largest: LargestBudget | None = None
    design: Rounds | None = None
    unfinished: tuple[str, ...] = ()
    scans: dict[str, Any] = field(default_factory=dict)
    mixtures: dict[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """The numbers as `--json` prints them, under their warnings."""
        foretold = {} if self.largest is None else {"largest_budget": largest_json(self.largest)}
        design = {} if self.design is None else {"design": self.design.model_dump(mode="json")}
        scans = {"scans": self.scans} if self.scans else {}
        mixtures = {"mixtures": self.mixtures} if self.mixtures else {}
        return {
            "warnings": self.warnings, **self.numbers, **foretold, **design, **scans, **mixtures,
        }  # fmt: skip

    def refused(self, sentence: str) -> "SweepReport":
        """The report of a sweep whose cap refused runs."""
        return replace(self, unfinished=(sentence, *self.unfinished))


def finish_sweep(planned: Plan, home: Home, mirror: Mirror) -> SweepReport:
    """Write a sweep's observations, law and report, and bring its mirror up to date.

    Its plan is left as it is: the sweep may be in a later round by now.
    """
    folder = sweep_folder(planned, home)
    report = write_report(planned, home, folder)
    runs = [(RunDir(home.runs / run.id), run) for run in planned.runs]
    mirror.publish_all(planned.spec.name, [pair for pair in runs if pair[0].path.exists()])
    mirror.catch_up()
    mirror.log_observations(planned)
    mirror.log_report(planned.spec.name, report.page, report.numbers, report.verdict)
    return report


def find_law(planned: Plan, home: Home) -> tuple[str, dict[str, float]]:
    """A sweep's verdict and numbers, as in its report; nothing is written."""
    if planned.spec.variants:
        each = {name: find_law(member, home) for name, member in members(planned).items()}
        verdicts = [f"{name}: {verdict}" for name, (verdict, _) in each.items()]
        values = {f"{name}_{key}": v for name, (_, n) in each.items() for key, v in n.items()}
        return "\n".join(verdicts), values
    if planned.spec.mixtures is not None:
        mixtures = mixed(planned, observations_frame(planned.runs, home), home)
        return "\n".join(mixtures.sentences), mixtures.numbers
    both = joined(planned, home)
    frame = observations_frame(both.plan.runs, home)
    findings = _findings(both.plan, frame, home)
    design = _design(planned, home.sweeps / planned.spec.name)
    return _verdict(both, findings, design, frame), numbers(findings)


def write_report(planned: Plan, home: Home, folder: Path) -> SweepReport:
    """Write observations.parquet, curves.parquet, law.json and report.html into the folder.

    Of a sweep of variants each has these in a folder of its own, and beside their page is
    scan.json. A sweep of mixtures has no law in N and D.
    """
    if planned.spec.variants:
        return _of_variants(planned, home, folder)
    if planned.spec.mixtures is not None:
        return _of_mixtures(planned, home, folder)
    both, design = joined(planned, home), _design(planned, folder)
    frame = observations_frame(both.plan.runs, home)
    write_durably(folder / "observations.parquet", encoded(frame, "parquet"))
    # On a part of the text training losses are of text known by heart: no envelope is of them.
    lines = curves([run for run in both.plan.runs if run.unique_tokens is None], home)
    write_durably(folder / "curves.parquet", encoded(lines, "parquet"))
    score_sweep(planned, home)
    findings = _findings(both.plan, frame, home)
    if findings.group is not None:
        law = findings.group.fit.law.model_copy(update={"name": planned.spec.name})
        write_whole(folder / "law.json", law.model_dump_json(indent=1))
    else:
        # A report without a law must not lie beside the law of an earlier table.
        (folder / "law.json").unlink(missing_ok=True)
    facts = [*both.sentences, *_facts(planned, home)]
    page = sweep_page(planned.spec.name, findings, lines, facts=facts)
    if design is not None:
        add_design(page, design, planned, frame)
    if not planned.spec.is_variant:
        add_tuned(page, tuned(planned, home))
    write_whole(folder / "report.html", page.html())
    return SweepReport(
        folder / "report.html",
        _verdict(both, findings, design, frame),
        findings.group.warnings if findings.group is not None else (),
        numbers(findings),
        no_law=findings.group is None,
        largest=findings.largest,
        design=design,
        unfinished=tuple(not_finished(planned, home)),
    )


def _of_variants(planned: Plan, home: Home, folder: Path) -> SweepReport:
    frame = observations_frame(planned.runs, home)
    write_durably(folder / "observations.parquet", encoded(frame, "parquet"))
    scans = scans_frame(planned, home)
    write_whole(folder / "scan.json", json.dumps(scans_json(scans), indent=1))
    reports = {
        name: write_report(member, home, home.sweeps / member.spec.name)
        for name, member in members(planned).items()
        if member.runs
    }
    verdicts = {name: report.verdict for name, report in reports.items()}
    comparison = compared(planned, home) if reports else None
    page = variants_page(planned, scans, comparison, verdicts, _facts(planned, home))
    write_whole(folder / "report.html", page.html())
    return SweepReport(
        folder / "report.html",
        "\n".join(variants_sentences(comparison, scans)),
        tuple(f"{name}: {text}" for name, each in reports.items() for text in each.warnings),
        {f"{name}_{key}": v for name, each in reports.items() for key, v in each.numbers.items()},
        unfinished=tuple(not_finished(planned, home)),
        scans=scans_json(scans),
    )


def _of_mixtures(planned: Plan, home: Home, folder: Path) -> SweepReport:
    frame = observations_frame(planned.runs, home)
    write_durably(folder / "observations.parquet", encoded(frame, "parquet"))
    write_durably(folder / "curves.parquet", encoded(curves(planned.runs, home), "parquet"))
    mixtures = mixed(planned, frame, home)
    page = mixtures.page(planned.spec.name, _facts(planned, home))
    write_whole(folder / "report.html", page.html())
    return SweepReport(
        folder / "report.html",
        "\n".join(mixtures.sentences),
        mixtures.warnings,
        mixtures.numbers,
        unfinished=tuple(not_finished(planned, home)),
        mixtures=mixtures.document,
    )


def _design(planned: Plan, folder: Path) -> Rounds | None:
    return None if planned.spec.design is None else read_rounds(folder)


def _verdict(both: Joined, findings: Findings, design: Rounds | None, frame: pl.DataFrame) -> str:
    chosen = () if design is None else design_sentences(design, both.plan, frame)
    return "\n".join([verdict(findings), *both.sentences, *chosen])


def _findings(planned: Plan, frame: pl.DataFrame, home: Home) -> Findings:
    return find(
        own_table(frame),
        source=f"sweep {planned.spec.name}",
        registered=said_before(planned, home),
    )


def _vocabulary(corpus: PreparedCorpus) -> str:
    made = f"a {corpus.vocab_size}-piece SentencePiece vocabulary"
    given = f"a given vocabulary of {corpus.vocab_size} ids"
    length = corpus.val_bytes_per_token
    bytes_per_token = f"{length:.2f} bytes per token" if length is not None else "bytes unknown"
    return f"{given if corpus.came_as_tokens else made}, {bytes_per_token}"


def _facts(planned: Plan, home: Home) -> list[str]:
    corpus = find_corpus(home.root, planned.data.digest)
    models = [run.run.model for run in planned.runs]
    trains = [run.run.train for run in planned.runs]
    layers = _range(model.n_layers for model in models)
    return [
        f"Corpus {corpus.digest[:12]}: {corpus.train_tokens:,} training and "
        f"{corpus.val_tokens:,} validation tokens of {_vocabulary(corpus)}, split by document.",
        f"Planned: {counted(len(planned.runs), 'training')} for "
        f"{counted(planned.observations, 'observation')}, "
        + (
            "one for each size, with a cooldown branch to every budget (wsd); "
            if planned.spec.schedule == "wsd"
            else "one for each (cosine); "
        )
        + f"together {flops(planned.flops_spent)} counted FLOPs.",
        f"Every model has {layers} layer{'' if layers == '1' else 's'} and heads of "
        f"{_range(model.head_dim for model in models)}; sequences of "
        f"{_range(train.seq_len for train in trains)} tokens, "
        f"{_range(train.batch_tokens for train in trains)} tokens a step, "
        f"{' or '.join(sorted({train.dtype for train in trains}))}. "
        f"Peak learning rate: {planned.spec.recipe.kind} rule. Losses are nats per token on "
        f"{_range(train.eval_tokens for train in trains)} held-out tokens.",
        *repetition_sentences(planned),
        *(f"Planned with a warning: {warning}" for warning in planned.warnings),
    ]


def _range(counts: Iterable[int]) -> str:
    """What counts of all runs are: one number, or the least and the greatest."""
    ordered = sorted(set(counts))
    ends = ordered if len(ordered) == 1 else (ordered[0], ordered[-1])
    return " to ".join(f"{count:,}" for count in ends)
