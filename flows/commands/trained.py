"""Commands generate, export-hf: use a trained run."""

import json as jsonlib
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.commands.common import Json, open_all_to_read, open_to_read, refusals, say
from flows.commands.options import RunName

Horizon = Annotated[int | None, Parameter(help="token budget of the branch; the largest if unset")]


def generate(
    run: RunName,
    prompt: str,
    /,
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
        prompt: text to continue.
        tokens: the largest number of new tokens.
        temperature: 0 takes the likeliest token each time.
        top_p: sample among the likeliest tokens whose joint probability is this.
        seed: of the sampling.
    """
    from flows.results.trained import find_trained

    with refusals():
        if tokens < 1:
            raise ValueError(f"--tokens {tokens} must be at least 1.")
        trained = find_trained(run, horizon, open_to_read())

    from flows.commands.output import emit
    from llama_core.corpus.tokenizer import BOS, EOS
    from llama_core.inference.generate import generate as continue_ids

    with refusals():
        tokenizer = trained.corpus.tokenizer()
        net, _ = trained.load()
        if tokenizer.as_read(prompt) != prompt:
            say(f"the run was trained on ASCII; it reads: {tokenizer.as_read(prompt)}")
        ids = [BOS, *tokenizer.encode(prompt)]
        new = list(
            continue_ids(
                net, ids, max_new_tokens=tokens, temperature=temperature, top_p=top_p, seed=seed,
                stop=EOS,
            )
        )  # fmt: skip
    # Decoded together: a character may lie across two tokens.
    text = tokenizer.decode(ids + new)
    if json is not None:
        answer = {"run": trained.run.id, "horizon": trained.tokens}
        emit(answer | {"prompt": prompt, "text": text, "ids": new}, json)
    else:
        print(text)


def export_hf(run: RunName, folder: Path, /, *, horizon: Horizon = None, json: Json = None) -> None:
    """Write a trained model for `transformers.AutoModelForCausalLM.from_pretrained`.

    The page of its run in MLflow then offers to register it.

    Args:
        folder: where to write; made if missing, refused if it holds files.
    """
    from flows.results.trained import find_trained

    with refusals():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} is not an empty folder. Name one that does not exist yet.")
        settings, home = open_all_to_read()
        trained = find_trained(run, horizon, home)

    from flows.commands.output import emit
    from flows.mirror.addresses import run_address
    from flows.mirror.publish import Mirror
    from flows.runs.exports import Export, modified_ns, record
    from flows.settings import is_writable
    from llama_core.exchange.hf import export_hf as export

    with refusals():
        spec, tokenizer = trained.planned.run, trained.corpus.tokenizer()
        net, digest = trained.load()
        export(
            folder, spec.model, net.state_dict(), seq_len=spec.train.seq_len, tokenizer=tokenizer
        )
    files = sorted(path.name for path in folder.iterdir())
    [name] = jsonlib.loads((folder / "config.json").read_text())["architectures"]
    page = None
    if is_writable(home):
        exported = Export(
            tokens=trained.tokens, folder=folder.absolute(), architecture=name,
            weights_sha256=digest, modified_ns=modified_ns(folder), at=time.time(),
        )  # fmt: skip
        record(trained.run, exported)
        Mirror(settings, home).publish(trained.run, trained.planned)
        page = run_address(trained.planned.sweep, trained.run.path, settings, home)
    if json is not None:
        answer = {"run": trained.run.id, "horizon": trained.tokens}
        emit(answer | {"folder": str(folder), "files": files, "mlflow": page}, json)
        return
    say(f"{folder}: {', '.join(files)}; transformers loads it as {name}")
    if page is not None:
        say(f"to register it (Register model): {page}")
