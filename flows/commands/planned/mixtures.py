"""The mixtures of a plan for people and as JSON: shares, and how often each source is read."""

from collections import Counter
from typing import Any

from analysis.words import counted, short
from flows.commands.output import table
from flows.runs.directory import RunDir
from flows.runs.state import run_state
from flows.settings import Home
from llama_core.corpus.prepared import PreparedCorpus
from sweeps.plan import Plan
from sweeps.repetition import epochs
from sweeps.spec import PlannedRun


def print_mixtures(plan: Plan, corpus: PreparedCorpus | None, home: Home) -> None:
    """Print the shares of each mixture, with the epochs of each source where they are known."""
    times = _epochs(plan, corpus)
    states: dict[str, Counter[str]] = {}
    for run in plan.runs:
        states.setdefault(run.mixture, Counter())[run_state(RunDir(home.runs / run.id))] += 1
    begun = any(set(counts) != {"planned"} for counts in states.values())
    sources = [source.name for source in plan.spec.corpus.sources]
    rows = []
    for name, shares in plan.spec.shares.items():
        cells = [
            f"{share:.3f}" + (f" x{times[name][source]:.2g}" if name in times and share else "")
            for source, share in shares.items()
        ]
        state = ", ".join(f"{count} {word}" for word, count in states[name].items())
        rows.append([name, *cells, *([state] if begun else [])])
    table("mixtures", ["mixture", *sources, *(["state"] if begun else [])], rows, tight=True)


def mixture_lines(plan: Plan, corpus: PreparedCorpus | None) -> list[str]:
    """What was planned of shares and repetition, in a line or two."""
    mixtures = plan.spec.mixtures
    if plan.spec.unique_tokens:
        parts: dict[int, float] = {}
        for run in plan.runs:
            if (unique := run.unique_tokens) is not None:
                parts[unique] = max(parts.get(unique, 0.0), run.cells[-1].tokens / unique)
        most = ", ".join(
            f"{short(unique)} {times:.3g} times" for unique, times in sorted(parts.items())
        )
        return [f"-U: on a part of the text, read over and over; the longest run reads {most}"]
    if mixtures is None:
        return []
    sources = counted(len(plan.spec.corpus.sources), "source")
    count = f"{counted(len(plan.spec.shares), 'mixture')} of {sources}"
    if mixtures.target_tokens is None:
        what = (
            "xN: how often the longest run reads a source. To read it as often as a longer "
            "training would, set mixtures.target_tokens"
        )
    else:
        what = (
            f"xN: how often a training of {short(mixtures.target_tokens)} tokens reads a source, "
            "and each run reads a part of it as often"
        )
    if corpus is None:
        what = "how often a source is read is known once the corpus is prepared"
    return [f"{count}; {what}"]


def mixture_json(plan: Plan, run: PlannedRun, corpus: PreparedCorpus | None) -> dict[str, Any]:
    """The mixture of a run: shares, unique tokens, and epochs where they are known."""
    mixture = run.run.data.mixture
    if mixture is None:
        return {}
    times = _epochs(plan, corpus).get(run.mixture)
    if run.unique_tokens is not None:
        read = run.cells[-1].tokens
        times = {
            name: mixture.shares[name] * read / unique
            for name, unique in mixture.unique_tokens.items()
        }
    return {"mixture": run.mixture, **mixture.model_dump(), "epochs": times}


def _epochs(plan: Plan, corpus: PreparedCorpus | None) -> dict[str, dict[str, float]]:
    mixtures = plan.spec.mixtures
    if mixtures is None or corpus is None:
        return {}
    tokens = max(run.cells[-1].tokens for run in plan.runs)
    return {
        name: epochs(mixtures, shares, corpus.source_tokens, tokens)
        for name, shares in plan.spec.shares.items()
    }
