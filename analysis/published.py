"""Figures from papers: loss laws, models, benchmark results, devices. Every row names its source.

The tables lie beside this module as package data. The bootstrap draws of `besiroglu` are our
own: `bench/besiroglu_bootstrap.py` says how they were made.
"""

import difflib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.law import CONSTANTS, LossLaw, Repetition, Support

# The laws that a retrodiction compares: three fits to Chinchilla's runs, three to others.
SIX_LAWS = (
    "besiroglu",
    "hoffmann_tex",
    "sardana",
    "muennighoff_c4",
    "gadre_rpj",
    "sardana_fit_all",
)


_LAW = ("name", "form", *CONSTANTS, "n_counts", "loss_unit", "source")


class UnknownName(ValueError):
    """No published law, model or device of this name; the message names the nearest."""


def law(name: str) -> LossLaw:
    """A published law by its name on the command line.

    Raises:
        UnknownName: no such law.
    """
    return _laws()[known("law", name, law_names())]


def law_names() -> tuple[str, ...]:
    """Every published law, in the order of the table."""
    return tuple(_laws())


def six_laws() -> tuple[LossLaw, ...]:
    """The laws of `SIX_LAWS`."""
    return tuple(law(name) for name in SIX_LAWS)


def models() -> pl.DataFrame:
    """Published models: model, family, n_params, tokens, shape, GPU-hours, source.

    `n_params` is the total, embeddings included, exact for the LLaMA families.
    """
    return _table("models")


def results() -> pl.DataFrame:
    """Benchmark results as printed in Touvron et al. 2023: family, benchmark, model, value."""
    return _table("results").with_columns(pl.col("shots").cast(pl.String))


def devices() -> pl.DataFrame:
    """Accelerators: dense bf16 FLOP/s, bytes/s, bytes, and a price where one is known."""
    return _table("devices")


def device(name: str) -> dict[str, Any]:
    """A row of `devices`, by name or alias.

    Raises:
        UnknownName: it is not there; the message names the nearest alias.
    """
    table = devices()
    aliases, names = tuple(table["aliases"]), tuple(table["name"])
    place = names.index(name) if name in names else aliases.index(known("GPU", name, aliases))
    return table.row(place, named=True)


def training_speeds() -> pl.DataFrame:
    """Published speeds of training in bf16: system, device, devices, shape, tokens_per_s, source.

    `n_params` is N of this project (without the input embedding); `tokens_per_s` is one device's.
    """
    return _table("training_speeds")


def block_speedups() -> pl.DataFrame:
    """Our own measured compute multipliers between blocks, as `isoflop compare` gives them.

    A row: the variant needs `compute` [lower, upper] times less than the baseline for the same
    loss, measured from flops_low to flops_high. Blocks are named as in a spec: llama, gpt3, palm.
    Without rows nothing was measured.
    """
    words = dict.fromkeys(("baseline", "variant", "source"), pl.String)
    return _table("block_speedups").cast(
        {name: words.get(name, pl.Float64) for name in _table("block_speedups").columns}
    )


def lr_rules() -> pl.DataFrame:
    """Power laws of the peak learning rate and of the batch in tokens, as published.

    Columns: rule, quantity, coef, exponent_N, exponent_D, exponent_C, n_counts, source.
    """
    return _table("lr_rules")


def lr_exponents() -> pl.DataFrame:
    """Exponents of the best learning rate and batch, as published.

    Columns: rule, quantity, along (`D` with N fixed, or `ray` with D ∝ N), exponent, source.
    """
    return _table("lr_exponents")


def llama_mixture() -> pl.DataFrame:
    """The sources of LLaMA's training text: name, aliases, share, epochs (at 1.4T), source.

    Aliases are in lower case and without punctuation, with blanks between them.
    """
    return _table("llama_mixture")


def training_rules(C: float) -> pl.DataFrame:
    """N and D by other rules at a training budget, serving left out.

    Hoffmann's approaches 1 and 2 give no loss law, only sizes and tokens by budget; their tables
    are interpolated in logarithms and give nothing outside. Llama 3's rule is D = 0.299·C^0.537
    (arXiv:2407.21783, figure 3), which its authors fitted from 6e18 to 1e22 FLOPs.

    Returns:
        rule, N, D, source; no row for a rule that does not reach C.
    """
    rows = []
    for (rule,), table in _table("projections").group_by(["rule"], maintain_order=True):
        flops = np.log(table["flops"].to_numpy())
        if flops[0] <= np.log(C) <= flops[-1]:
            N = float(np.exp(np.interp(np.log(C), flops, np.log(table["n_params"].to_numpy()))))
            rows.append({"rule": rule, "N": N, "D": C / (6 * N), "source": table["source"][0]})
    if C >= 6e18:
        D = 0.299 * C**0.537
        source = "Llama 3 (arXiv:2407.21783) figure 3"
        rows.append({"rule": "llama3", "N": C / (6 * D), "D": D, "source": source})
    schema = {"rule": pl.String, "N": pl.Float64, "D": pl.Float64, "source": pl.String}
    return pl.DataFrame(rows, schema=schema)


@cache
def _laws() -> dict[str, LossLaw]:
    return {row["name"]: _law(row) for row in _table("laws").iter_rows(named=True)}


def _law(row: dict[str, Any]) -> LossLaw:
    support = repetition = None
    if row["flops_low"] is not None:
        support = Support(
            flops=(row["flops_low"], row["flops_high"]),
            tokens_per_param=(row["ratio_low"], row["ratio_high"]),
        )
    if row["R_D"] is not None:
        repetition = Repetition(R_D=row["R_D"], R_N=row["R_N"])
    return LossLaw(
        **{name: row[name] for name in _LAW},
        c_counts="flops_6nd",
        support=support,
        repetition=repetition,
        draws=_besiroglu_draws() if row["name"] == "besiroglu" else {},
    )


def _besiroglu_draws() -> dict[str, tuple[float, ...]]:
    table = _table("besiroglu_draws")
    logs = {name: tuple(np.exp(table[f"log_{name}"].to_numpy()).tolist()) for name in "EAB"}
    return logs | {name: tuple(table[name].to_list()) for name in ("alpha", "beta")}


@cache
def _table(name: str) -> pl.DataFrame:
    path = files("analysis").joinpath("tables", f"{name}.csv")
    return pl.read_csv(Path(str(path)), infer_schema_length=None)


def known(kind: str, name: str, names: tuple[str, ...]) -> str:
    """The name, if it is among the names.

    Raises:
        UnknownName: it is not; the message names the nearest.
    """
    if name in names:
        return name
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    raise UnknownName(f"no {kind} is called {name!r}.{hint} There are: {', '.join(names)}.")
