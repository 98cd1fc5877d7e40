"""The words: each gathers its parameters and calls what the command of that name calls."""

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path

from analysis.fit.options import FitOptions
from analysis.forecast.answer import Question
from analysis.forecast.points import read_option
from analysis.law import ForecastForm, Form, LossLaw
from analysis.retrodict.own_sweep import OwnSweep
from analysis.solver.objective import ObjectiveName
from flows.answers.compare import Asymptote, Compared, Comparing, compare_sides
from flows.answers.fit import Fit, fit_runs, objective_of
from flows.answers.forecast import Forecast, Pair, forecast_runs, read_pairs
from flows.answers.frontier import Frontier
from flows.answers.frontier import frontier as frontier_of
from flows.answers.mix import Asked, Columns, Mix, mix_source
from flows.answers.next_runs import Choosing, Next, next_after
from flows.answers.question import Priced, demand_of, goal_of, serving_of
from flows.answers.retrodict import Retrodiction, own_sweep
from flows.answers.retrodict import retrodict as retrodiction
from flows.answers.rows import Rows
from flows.answers.runs import Runs, read_runs
from flows.answers.sides import expanded
from flows.answers.sweep import Sweep, open_sweep
from flows.settings import Home, home_of, open_settings
from isoflop.given import (
    Demand,
    Named,
    Names,
    Table,
    bounds_given,
    check_choice,
    in_python,
    law_given,
    names_given,
    pairs_given,
    runs_given,
    several_given,
    side_given,
    source_given,
)


def read(
    source: Named, *, map: Mapping[str, str] | None = None, include_status: Sequence[str] = ()
) -> Runs:
    """Read a table of finished runs, one a row.

    Args:
        source: CSV, TSV, JSON, Parquet or Excel; the name of a sweep; `mlflow:EXPERIMENT`;
            `optuna:STUDY@STORAGE`; a folder of TensorBoard; a data frame; or a dictionary of
            columns.
        map: isoflop's name for a column to the table's, or to arithmetic of its columns:
            `{"val_loss": "eval_nll", "tokens": "steps*batch*2048"}`.
        include_status: take rows of these states too, besides finished runs.

    Returns:
        the runs, with columns `n_params` (N), `tokens` (D), `val_loss` and those of the table.

    Raises:
        ValueError: there is no such table, or it cannot be read as one of runs.
    """
    with in_python():
        return read_runs(source_given(source), map, include_status)


def fit(
    source: Table,
    *,
    form: Form = "chinchilla",
    objective: ObjectiveName = "huber_log",
    delta: float = 1e-3,
    by: str | None = None,
    where: str | None = None,
    best_of: Names = (),
    pool: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.9,
    target_flops: float | None = None,
    anyway: bool = False,
) -> Fit:
    """Fit a loss law to a table of runs or a sweep, as `isoflop fit` does.

    Args:
        source: what `read` returns or takes.
        form: `chinchilla` E + A/N^alpha + B/D^beta; `gamma` raises the sum of powers to gamma;
            `tied` sets alpha = beta; `kaplan` has no E; `data_constrained` needs a column
            unique_tokens.
        objective: what is summed over rows.
        delta: where Huber's penalty turns from squares to absolute values.
        by: column; one law for each of its values.
        where: polars SQL filter, for example `"tokens > 1e9 AND NOT outlier"`.
        best_of: columns; of models with one N and D only those with the best value are used.
        pool: fit rows of several experiments, or of several settings for one N and D, together.
        bootstrap: resamples; 0 for none.
        seed: of the resampling.
        level: of every interval.
        target_flops: budget C = 6·N·D of N* and D*; ten times the table's largest unless given.
        anyway: give N* and D* also under a law that does not support them.

    Raises:
        ValueError: the table cannot be read, or no law can be fitted to it.
    """
    with in_python():
        check_choice("form", form, Form)
        check_choice("objective", objective, ObjectiveName)
        penalty = objective_of(objective, delta)
        options = FitOptions(form, penalty, bootstrap, seed, level, anyway, target_flops)
        return fit_runs(runs_given(source), options, Rows(by, where, names_given(best_of), pool))


def forecast(
    source: Table,
    *,
    at: Pair | Sequence[Pair] = (),
    points: str | PathLike[str] | None = None,
    flops: float | str | Sequence[float | str] = (),
    level: float = 0.9,
    form: ForecastForm = "gamma",
    by: str | None = None,
    where: str | None = None,
    best_of: Names = (),
    pool: bool = False,
    anyway: bool = False,
) -> Forecast:
    """Foretell losses of runs not yet trained, and the best N and D of budgets.

    Without `at`, `points` and `flops`: N* at ten times the table's largest compute.

    Args:
        source: what `read` returns or takes.
        at: N (parameters) and D (tokens) of runs: `(7e9, 2e12)`, `"7B,2T"`, or several.
        points: a file with a table of runs to foretell.
        flops: budgets C = 6·N·D at which N* is sought.
        level: of every interval.
        form: the law under the forecast: `gamma`, or `chinchilla`, the same with gamma = 1.
        by: column; one forecast for each of its values.
        where: polars SQL filter.
        best_of: columns; of models with one N and D only those with the best value are used.
        pool: take rows of several experiments, or of several settings for one N and D, together.
        anyway: give N* also where the table does not support one.

    Raises:
        ValueError: the table cannot be read, or no forecast can learn from it.
    """
    with in_python():
        check_choice("form", form, ForecastForm)
        runs = runs_given(source)
        file = None if points is None else Path(points)
        pairs = read_pairs(several_given(at), file, runs.table.n_counts)
        given = [flops] if isinstance(flops, str | float | int) else flops
        budgets = tuple(read_option("--flops", each, "flops", "1e23") for each in given)
        question = Question(pairs, budgets, level, form, anyway)
        return forecast_runs(runs, question, Rows(by, where, names_given(best_of), pool))


def frontier(
    law: Table | LossLaw | Fit = "besiroglu",
    *,
    loss: float | None = None,
    flops: float | str | None = None,
    like: tuple[float, float] | None = None,
    inference_tokens: Demand = None,
    prompt_tokens: Demand = None,
    generated_tokens: Demand = None,
    gpu: str | None = None,
    price: float | None = None,
    gpus: int | None = None,
    batch: int | None = None,
    context: float | None = None,
    bits: float | None = None,
    days: float | None = None,
    unique_tokens: float | None = None,
    level: float = 0.9,
    anyway: bool = False,
) -> Frontier:
    """Choose N and D for a quality and a demand, as `isoflop frontier` does.

    Ask for one goal: `loss`, `flops` or `like`. Under a sweep or a table of runs the intervals are
    those of its forecast; under a law or a fit, those of its bootstrap.

    Args:
        law: a published law by its name, a file with a law, a law, a fit, or what `read` takes.
        loss: goal: reach this loss, in the law's unit.
        flops: goal: be as good as this training budget buys.
        like: goal: be as good as N parameters on D tokens, `(7e9, 2e12)`.
        inference_tokens: to serve over the model's life; a number, or least and most.
        prompt_tokens: the same, prompt alone.
        generated_tokens: the same, generated alone.
        gpu: price it in dollars on this GPU, such as `h100` or `b200`.
        price: dollars an hour for a GPU; else as listed.
        gpus: most GPUs for one replica; 8.
        batch: sequences decoded together; 8.
        context: tokens of a prompt, and while decoding; 1024.
        bits: bits of a stored weight; 16.
        days: rent whole replicas this long; else by the second.
        unique_tokens: unique training tokens; else all are fresh.
        level: of every interval.
        anyway: answer also under a law that does not support an N*.

    Raises:
        ValueError: there is no such law, or the question has no answer.
    """
    with in_python():
        budget = None if flops is None else read_option("--flops", flops, "flops", "1e23")
        goal = goal_of(loss, budget, like)
        demand = demand_of(*map(bounds_given, (inference_tokens, prompt_tokens, generated_tokens)))
        serving = serving_of(
            gpu, price, demand, gpus=gpus, batch=batch, context=context, bits=bits, days=days
        )
        priced = Priced(demand, serving, days, unique_tokens)
        return frontier_of(law_given(law), goal, priced, level=level, anyway=anyway)


def next(
    source: Table,
    *,
    flops: float | str,
    budget: float | str | None = None,
    candidates: str | PathLike[str] | None = None,
    runs: int = 5,
    level: float = 0.9,
    where: str | None = None,
    best_of: Names = (),
    pool: bool = False,
) -> Next:
    """The runs that sharpen N* and the loss at a budget most per FLOP, and whether they pay.

    Args:
        source: what `read` returns or takes.
        flops: the target's budget C = 6·N·D.
        budget: FLOPs that the runs may cost together, counted ones after a sweep; a third of the
            target's unless given.
        candidates: runs to choose from: a file with N and D, or SIZES@RATIOS, sizes and tokens
            per parameter, `"20M,50M@10,40"`; for a sweep WIDTHS@RATIOS. Else those around the
            table's or the sweep's own.
        runs: how many to choose, at most.
        level: of every interval.
        where: polars SQL filter.
        best_of: columns; of models with one N and D only those with the best value are used.
        pool: take rows of several experiments, or of several settings for one N and D, together.

    Raises:
        ValueError: the table cannot be read, or no candidate is within the budget.
    """
    with in_python():
        target = read_option("--flops", flops, "flops", "1e20")
        most = None if budget is None else read_option("--budget", budget, "flops", "1e20")
        offered = None if candidates is None else fspath(candidates)
        how = Choosing(target, most, offered, runs, level)
        return next_after(runs_given(source), how, Rows(None, where, names_given(best_of), pool))


def mix(
    source: Named,
    *,
    map: Mapping[str, str] | None = None,
    include_status: Sequence[str] = (),
    target: str | Mapping[str, float] | None = None,
    stock: str | Mapping[str, float] | None = None,
    epochs: float | None = None,
    params: float | str | None = None,
    tokens: float | str | None = None,
    points: Named | None = None,
    anywhere: bool = False,
    level: float = 0.9,
    where: str | None = None,
) -> Mix:
    """The law of losses by source, and the shares of least loss, as `isoflop mix` has them.

    Args:
        source: a table with columns share_NAME and loss_NAME, one trained mixture a row; or a
            sweep of mixtures, whose spec has target, stock, epochs and tokens unless given here.
        map: isoflop's name for a column to the table's; `share_` and `loss_` for all columns that
            are named so.
        include_status: take rows of these states too.
        target: weights of the losses to lower, by source; the mean of all unless given.
        stock: unique tokens of sources that run short.
        epochs: how often such a source may be read; 4 unless given.
        params: N of the training to mix for, where the table has several; else its largest.
        tokens: D of the training to mix for; else the table's largest.
        points: a table of mixtures whose losses to foretell.
        anywhere: search all mixtures, not only averages of those tried.
        level: of every interval.
        where: polars SQL filter.

    Raises:
        ValueError: the table cannot be read, or no law can be fitted to it.
    """
    with in_python():
        asked = Asked(
            pairs_given(target), pairs_given(stock), epochs, params, tokens, anywhere, level
        )
        columns = Columns(map or {}, where, include_status)
        foretold = None if points is None else source_given(points)
        return mix_source(source_given(source), asked, columns, foretold)


def compare(
    baseline: Table,
    *variants: Table,
    at: float | None = None,
    asymptote: Asymptote = "shared",
    bpb: bool = False,
    bootstrap: int = 1000,
    level: float = 0.9,
) -> Compared:
    """How many times less compute variants need for the same loss, as `isoflop compare` has it.

    Args:
        baseline: a sweep by its name, with its speeds and settings; or what `read` returns or
            takes, for its losses alone. A sweep with variants alone is compared with its base.
        variants: what is compared with it.
        at: training FLOPs of the projection; ten times the largest common budget unless given.
        asymptote: the loss that no compute removes: `shared` by both, `free` (each its own), or a
            number.
        bpb: compare bits per byte, as between tokenizers.
        bootstrap: draws of each interval.
        level: of every interval.

    Raises:
        ValueError: there is no such sweep or table, or the losses do not compare.
    """
    with in_python():
        home, given = home_of(open_settings()), tuple(map(side_given, (baseline, *variants)))
        # A sweep with variants alone is compared with its base.
        names = [each for each in given if isinstance(each, str)]
        if len(names) == len(given):
            given = expanded(tuple(names), home)
        how = Comparing(at, asymptote, bpb, bootstrap, level)
        return compare_sides(given, {}, how, home)


def retrodict(*, level: float = 0.9, experiment: str | Sweep | None = None) -> Retrodiction:
    """The inference bill that would make each published model the best choice; what beat GPT-3.

    Args:
        level: of every interval.
        experiment: put a sweep of ours, or of that name, on the page.

    Raises:
        ValueError: there is no such sweep, or it has no law.
    """
    with in_python():
        own: OwnSweep | None = None
        if isinstance(experiment, Sweep):
            own = OwnSweep(experiment.name, experiment.law, experiment.observations)
        elif experiment is not None:
            own = own_sweep(experiment, home_of(open_settings()))
        return retrodiction(level, own)


def sweep(name: str, *, home: str | PathLike[str] | None = None) -> Sweep:
    """The results of a sweep: `observations`, `curves`, `law`, `verdict`, `figure("isoflop")`.

    They are those of its last report; `isoflop report NAME` renews it while a sweep trains.

    Args:
        name: of the sweep; of a variant SWEEP/VARIANT.
        home: the folder in which it was trained; else that of ISOFLOP_HOME.

    Raises:
        ValueError: there is no such sweep, or it has no observations yet.
    """
    place = home_of(open_settings()) if home is None else Home(Path(home).absolute())
    return open_sweep(name, place)
