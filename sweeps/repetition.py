"""Runs that read text more than once: on parts of it, or as often as the training mixed for."""

import math
from collections.abc import Mapping, Sequence

from llama_core.config import Wsd
from llama_core.mixture import Mixture, in_whole_rows
from sweeps.grid import whole
from sweeps.mixtures import Mixtures, Shares
from sweeps.spec import PlannedRun, SweepSpec

# Shares are whole rows of a block, so a share at its limit may lie this far above it.
_NEARLY = 1.01
# A run repeats where it is longer than its part by more than the rounding to whole windows.
_LONGER = 1.02


def on_parts(
    spec: SweepSpec, runs: Sequence[PlannedRun], source_tokens: Mapping[str, int] | None
) -> list[PlannedRun]:
    """The runs again on each part of the text, to the D that are longer than it.

    Each is trained as the run on all text: the same rate, batch, warm-up and decay, so that the
    two differ in their text alone. A part has every source by its share; a smaller one lies
    within a larger one, and is the same for all seeds. Repeated cells are on no isoflop.

    Raises:
        ValueError: no run is longer than a part, or the corpus has less than the longest reads.
    """
    longest = max((run.cells[-1].tokens for run in runs), default=0)
    shares = in_whole_rows(spec.corpus.shares)
    planned = []
    for count in spec.unique_tokens:
        repeated = [again for run in runs if (again := _on_part(run, count, shares)) is not None]
        if not repeated:
            raise ValueError(
                f"unique_tokens={count:,}: no run repeats them, for the longest reads {longest:,} "
                f"tokens. Leave it out, or give less than {longest / _LONGER:,.0f}."
            )
        planned += repeated
    for name, tokens in (source_tokens or {}).items():
        if planned and shares[name] * longest > tokens:
            raise ValueError(
                f"unique_tokens is compared with runs whose tokens are all unique, and the longest "
                f"reads {shares[name] * longest:,.0f} tokens of {name!r}, which has {tokens:,}. "
                "Add text, or lower the largest D of the grid."
            )
    return planned


def _on_part(run: PlannedRun, count: int, shares: Shares) -> PlannedRun | None:
    """The run on a part of this many tokens; None where it is no longer than that."""
    train = run.run.train
    window = train.seq_len
    unique = {name: whole(count * share, window) for name, share in shares.items() if share}
    cells = tuple(
        cell.model_copy(update={"flops_budget": None})
        for cell in run.cells
        if cell.tokens > _LONGER * sum(unique.values())
    )
    if not cells:
        return None
    schedule = train.schedule
    if isinstance(schedule, Wsd):
        horizons = tuple(cell.tokens for cell in cells)
        schedule = schedule.model_copy(update={"horizons": horizons})
    data = run.run.data.model_copy(update={"mixture": Mixture(shares=shares, unique_tokens=unique)})
    own = {"data": data, "train": train.model_copy(update={"schedule": schedule})}
    return run.model_copy(
        update={
            "run": run.run.model_copy(update=own),
            "cells": cells,
            "name": f"{run.name}-U{count}",
        }
    )


def stocks(mixtures: Mixtures, source_tokens: Mapping[str, int]) -> dict[str, float]:
    """Tokens of each source that the training to mix for has."""
    return {name: mixtures.stock.get(name, tokens) for name, tokens in source_tokens.items()}


def epochs(
    mixtures: Mixtures, shares: Shares, source_tokens: Mapping[str, int], tokens: int
) -> dict[str, float]:
    """How often the training to mix for reads each source; without one, a run of these tokens."""
    read = mixtures.target_tokens or tokens
    stock = stocks(mixtures, source_tokens)
    return {name: share * read / stock[name] for name, share in shares.items()}


def matched(
    mixtures: Mixtures,
    shares: Shares,
    source_tokens: Mapping[str, int] | None,
    *,
    tokens: int,
    seq_len: int,
) -> Mixture:
    """What a run of this length reads of each source.

    With a training to mix for, the unique tokens of a source are to the run's tokens what that
    training's stock is to its tokens, so both read it equally often (arXiv:2606.07597).

    Args:
        source_tokens: training tokens of the corpus's sources; None before it is prepared, and
            then nothing is matched.

    Raises:
        ValueError: the run is longer than the training, or the corpus has less than it reads.
    """
    if mixtures.target_tokens is None or source_tokens is None:
        return Mixture(shares=shares)
    part = tokens / mixtures.target_tokens
    if part > 1:
        raise ValueError(
            f"mixtures.target_tokens={mixtures.target_tokens:,.0f} is less than the "
            f"{tokens:,} tokens of a run. Raise it to what the mixture is for, or shorten the runs."
        )
    unique = {}
    for name, stock in stocks(mixtures, source_tokens).items():
        wanted, has = part * stock, source_tokens[name]
        # No window crosses two shards, so a few tokens at their ends are never read.
        if wanted < 0.95 * has:
            unique[name] = whole(wanted, seq_len)
        elif shares[name] * tokens > has and wanted > has:
            raise ValueError(
                f"a run reads {shares[name] * tokens:,.0f} tokens of {name!r}, of which the "
                f"training mixed for has {stock:,.0f} and so the run {wanted:,.0f}, but the corpus "
                f"{has:,}. Add text to the source, or lower the runs' tokens or its share."
            )
    return Mixture(shares=shares, unique_tokens=unique)


def refuse_many_epochs(
    mixtures: Mixtures, made: Mapping[str, Shares], source_tokens: Mapping[str, int], tokens: int
) -> None:
    """ValueError where a mixture would read a source more often than `max_epochs`.

    Args:
        tokens: of the sweep's longest run.
    """
    most = mixtures.max_epochs
    over: dict[str, list[tuple[float, str]]] = {}
    for name, shares in made.items():
        for source, times in epochs(mixtures, shares, source_tokens, tokens).items():
            if times > most * _NEARLY:
                over.setdefault(source, []).append((times, name))
    if not over:
        return
    read = mixtures.target_tokens or tokens
    stock = stocks(mixtures, source_tokens)
    worst = max(over, key=lambda source: max(over[source]))
    times, name = max(over[worst])
    limits = {source: math.floor(1e3 * most * stock[source] / read) / 1e3 for source in over}
    remedies = ", ".join(f"{source} {limit:g}" for source, limit in limits.items())
    raise ValueError(
        f"{len({each for pairs in over.values() for _, each in pairs})} of {len(made)} mixtures "
        f"read a source more than mixtures.max_epochs={most:g} times in {read:,.0f} tokens, "
        f"{name} its {stock[worst]:,.0f} tokens of {worst!r} {times:.3g} times. Limit the shares "
        f"(mixtures.shares.at_most: {remedies}), raise max_epochs, or lower "
        f"{'mixtures.target_tokens' if mixtures.target_tokens else 'the tokens of the grid'}."
    )
