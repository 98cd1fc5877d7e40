"""Commands generate, export-hf: use a trained run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from llama_core.corpus import PreparedCorpus
    from llama_core.hf import State
    from sweeps.spec import RunSpec

Horizon = Annotated[int | None, Parameter(help="token budget of the branch; the largest if unset")]
Json = Annotated[
    str | None,
    Parameter(help="write JSON to this file; - for standard output", allow_leading_hyphen=True),
]


def generate(
    run: str,
    prompt: str,
    *,
    horizon: Horizon = None,
    tokens: int = 100,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Continue a prompt with a trained model.

    Args:
        run: id of a finished run, or the beginning of one.
        prompt: text to continue.
        tokens: at most so many new tokens.
        temperature: 0 takes the likeliest token each time.
        top_p: sample among the likeliest tokens of this joint probability.
        seed: of the sampling.
    """
    from flows.cli import fail
    from flows.output import emit
    from llama_core.generate import generate as continue_ids
    from llama_core.model import Llama
    from llama_core.tokenizer import BOS, EOS

    if tokens < 1:
        fail(f"--tokens {tokens} must be at least 1.")
    spec, corpus, state, found = _trained(run, horizon)
    tokenizer = corpus.tokenizer()
    net = Llama(spec.model)
    net.load_state_dict(state)
    ids = [BOS, *tokenizer.encode(prompt)]
    try:
        new = list(
            continue_ids(
                net, ids, max_new_tokens=tokens, temperature=temperature, top_p=top_p, seed=seed,
                stop=EOS,
            )
        )  # fmt: skip
    except ValueError as error:
        fail(str(error))
    # Decoded together: a character may lie across two tokens.
    text = tokenizer.decode(ids + new)
    if json is not None:
        answer = {"run": run, "horizon": found, "prompt": prompt, "text": text, "ids": new}
        emit(answer, json)
    else:
        print(text)


def export_hf(run: str, folder: Path, *, horizon: Horizon = None, json: Json = None) -> None:
    """Write a trained model for `transformers.AutoModelForCausalLM.from_pretrained`.

    Args:
        run: id of a finished run, or the beginning of one.
        folder: where to write; made if missing, refused if it holds files.
    """
    from flows.cli import fail
    from flows.output import emit
    from llama_core.hf import export_hf as export

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fail(f"{folder} is not an empty folder. Name one that does not exist yet.")
    spec, corpus, state, found = _trained(run, horizon)
    export(folder, spec.model, state, seq_len=spec.train.seq_len, tokenizer=corpus.tokenizer())
    files = sorted(path.name for path in folder.iterdir())
    if json is not None:
        emit({"run": run, "horizon": found, "folder": str(folder), "files": files}, json)
    else:
        print(f"{folder}: {', '.join(files)}", file=sys.stderr)


def _trained(run: str, horizon: int | None) -> tuple["RunSpec", "PreparedCorpus", "State", int]:
    """A run's spec, corpus and weights, and the horizon they are of; refuses what is not there."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from flows.cli import fail
    from flows.rundir import RunDir
    from flows.settings import HomeError, open_home
    from llama_core.corpus import find_corpus
    from llama_core.documents import CorpusError

    try:
        home = open_home()
        folders = sorted(home.runs.glob(f"{_plain(run)}*")) if _plain(run) else []
        if len(folders) != 1:
            found = f"{len(folders)} runs in {home.runs} begin with {run!r}"
            fail(f"{found}; `isoflop runs` lists them.")
        planned = RunDir(folders[0]).planned()
        corpus = find_corpus(home.root, planned.run.data.digest)
    except (HomeError, CorpusError, OSError) as error:
        fail(str(error))
    budgets = sorted(
        int(path.stem.removeprefix("final_")) for path in folders[0].glob("final_*.safetensors")
    )
    if not budgets:
        fail(f"run {folders[0].name} has no finished horizon yet.")
    chosen = budgets[-1] if horizon is None else horizon
    if chosen not in budgets:
        listed = ", ".join(map(str, budgets))
        fail(f"run {folders[0].name} has no horizon of {chosen} tokens; it has {listed}.")
    path = folders[0] / f"final_{chosen}.safetensors"
    try:
        return planned.run, corpus, load_file(path), chosen
    except SafetensorError as error:
        fail(f"{path} cannot be read: {error}")


def _plain(run: str) -> str:
    """The id if it is only letters, digits and dashes: it goes into a file pattern."""
    return run if run.replace("-", "").isalnum() else ""
