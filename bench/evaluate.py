"""Evaluation requests per second, ours against the harness's backend for transformers.

Same weights, tokenizer and requests, fp32, taking turns in one process. Three kinds of request:
choices of a few words after a question, choices of one letter after solved examples, and generated
answers.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from flows.evaluation.answers import Answers
from flows.evaluation.harness_model import HarnessModel
from llama_core.config import ModelConfig, Placement
from llama_core.corpus.docstrings import prose
from llama_core.corpus.tokenizer import Tokenizer
from llama_core.exchange.hf import export_hf
from llama_core.machine import attention_backend, machine_settings, resolve_device
from llama_core.model import Llama

SEQ_LEN = 512
VOCAB = 4096
SIZES = {"0.5M": (128, 2, 4), "8M": (320, 6, 5)}


def requests(words: Sequence[str], draw: random.Random) -> dict[str, list[Instance]]:
    """Requests of the three kinds, of random words of a text."""

    def some(count: int) -> str:
        return " ".join(draw.choices(words, k=count))

    def choices(context: str, answers: Sequence[str]) -> list[Instance]:
        return [ask("loglikelihood", (context, f" {answer}")) for answer in answers]

    def ask(kind: Any, arguments: tuple[Any, ...]) -> Instance:
        return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)

    few = [choices(some(draw.randint(20, 60)), [some(6) for _ in range(4)]) for _ in range(60)]
    letters = [choices(some(draw.randint(120, 160)), "ABCD") for _ in range(40)]
    # A stop that never comes: every answer takes all of its tokens, from either model.
    rules = {"until": ["\0"], "max_gen_toks": 32, "do_sample": False}
    return {
        "choices of six words": [choice for question in few for choice in question],
        "choices of a letter": [choice for question in letters for choice in question],
        "written answers": [ask("generate_until", (some(40), rules)) for _ in range(32)],
    }


def answer_all(model: Any, instances: list[Instance]) -> float:
    """Seconds to answer requests of one kind."""
    started = time.perf_counter()
    kind = instances[0].request_type
    getattr(model, kind)(instances, disable_tqdm=True)
    return time.perf_counter() - started


def main() -> None:
    """Print a table; write JSON to --json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="of transformers")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = resolve_device(options.device)
    files = sorted(Path(torch.__file__).parent.rglob("*.py"))[::5]
    texts = ["\n\n".join(prose(file.read_bytes())) for file in files]
    tokenizer = Tokenizer.train(iter(texts), vocab_size=VOCAB, byte_fallback=True)
    draw = random.Random(0)
    words = " ".join(texts).split()
    results: dict[str, Any] = {}
    print(f"{device}, torch {torch.__version__}, requests a second, median of {options.rounds}")
    for size in options.sizes:
        width, layers, heads = SIZES[size]
        config = ModelConfig(
            vocab_size=VOCAB, d_model=width, n_layers=layers, n_heads=heads, n_kv_heads=heads,
            head_dim=width // heads, d_ffn=round(8 * width / 3 / 16) * 16,
        )  # fmt: skip
        net = Llama(config, attention=attention_backend(Placement(), device, SEQ_LEN))
        net.init_weights(0)
        net.to(device)
        by_kind = requests(words, draw)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            state = {key: value.cpu() for key, value in net.state_dict().items()}
            export_hf(folder / "hf", config, state, seq_len=SEQ_LEN, tokenizer=tokenizer)
            others = {
                f"transformers, batch {batch}": HFLM(
                    pretrained=str(folder / "hf"), device=str(device), dtype="float32",
                    batch_size=batch, max_length=SEQ_LEN, add_bos_token=True,
                )
                for batch in options.batch
            }  # fmt: skip

            def ours(instances: list[Instance], folder: Path = folder, net: Llama = net) -> float:
                path = folder / "answers"
                path.unlink(missing_ok=True)
                with Answers(path) as answers, machine_settings(Placement(), device, "float32"):
                    tokens = 4_096 if device.type == "cpu" else 32_768
                    model = HarnessModel(
                        net, tokenizer, answers, seq_len=SEQ_LEN, batch_tokens=tokens
                    )
                    return answer_all(model, instances)

            for kind, instances in by_kind.items():
                runs: dict[str, Callable[[list[Instance]], float]] = {"ours": ours}
                for other, model in others.items():
                    runs[other] = partial(answer_all, model)
                title = f"{size}, {kind}"
                results[title] = race(title, runs, instances, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def race(
    title: str,
    runs: dict[str, Callable[[list[Instance]], float]],
    instances: list[Instance],
    rounds: int,
) -> dict[str, Any]:
    """Requests per second of each contender, taking turns after a round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            elapsed = run(instances)
            if number:
                seconds[name].append(elapsed)
    print(f"\n{title} ({len(instances)})")
    rows = {}
    for name, theirs in seconds.items():
        pairs = zip(theirs, seconds["ours"], strict=True)
        ratio = statistics.median(their_s / our_s for their_s, our_s in pairs)
        rates = sorted(len(instances) / elapsed for elapsed in theirs)
        rows[name] = {"rates": rates, "ours_over_it": ratio}
        low, middle, high = rates[0], statistics.median(rates), rates[-1]
        print(f"  {name:<28}{low:9.1f}{middle:9.1f}{high:9.1f} /s   ours x{ratio:.2f}")
    return rows


if __name__ == "__main__":
    main()
