"""Requests of an evaluation answered in a second, against the harness's backend for transformers.

Same weights, same tokenizer, same requests, fp32, in turn in one process. Three kinds: choices of
a few words after a question, choices of one letter after solved examples, and written answers.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
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
    """The three kinds, made of a text's words."""

    def some(count: int) -> str:
        return " ".join(draw.choices(words, k=count))

    def choices(context: str, answers: Sequence[str]) -> list[Instance]:
        return [ask("loglikelihood", (context, f" {answer}")) for answer in answers]

    def ask(kind: Any, arguments: tuple[Any, ...]) -> Instance:
        return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)

    few = [choices(some(draw.randint(20, 60)), [some(6) for _ in range(4)]) for _ in range(60)]
    letters = [choices(some(draw.randint(120, 160)), "ABCD") for _ in range(40)]
    # Stops that do not come: every answer takes all of its tokens, whoever writes it.
    rules = {"until": ["\0"], "max_gen_toks": 32, "do_sample": False}
    return {
        "choices of six words": [one for four in few for one in four],
        "choices of a letter": [one for four in letters for one in four],
        "written answers": [ask("generate_until", (some(40), rules)) for _ in range(32)],
    }


def answered(model: Any, asked: list[Instance]) -> float:
    """Seconds for all of them."""
    started = time.perf_counter()
    kind = asked[0].request_type
    getattr(model, kind)(asked, disable_tqdm=True)
    return time.perf_counter() - started


def main() -> None:
    """Print a table; write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="of the other")
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
    found: dict[str, Any] = {}
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
        asked = requests(words, draw)
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

            def ours(asked: list[Instance], folder: Path = folder, net: Llama = net) -> float:
                path = folder / "answers"
                path.unlink(missing_ok=True)
                with Answers(path) as answers, machine_settings(Placement(), device, "float32"):
                    tokens = 4_096 if device.type == "cpu" else 32_768
                    model = HarnessModel(
                        net, tokenizer, answers, seq_len=SEQ_LEN, batch_tokens=tokens
                    )
                    return answered(model, asked)

            for kind, some in asked.items():
                runs: dict[str, Callable[[list[Instance]], float]] = {"ours": ours}
                for other, model in others.items():
                    runs[other] = lambda asked, model=model: answered(model, asked)
                found[f"{size}, {kind}"] = race(f"{size}, {kind}", runs, some, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def race(
    title: str,
    runs: dict[str, Callable[[list[Instance]], float]],
    asked: list[Instance],
    rounds: int,
) -> dict[str, Any]:
    """Rates of each, taken in turn after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            taken = run(asked)
            if number:
                seconds[name].append(taken)
    print(f"\n{title} ({len(asked)})")
    rows = {}
    for name, taken in seconds.items():
        ratio = statistics.median(
            one / other for one, other in zip(taken, seconds["ours"], strict=True)
        )
        rates = sorted(len(asked) / one for one in taken)
        rows[name] = {"rates": rates, "ours_over_it": ratio}
        low, middle, high = rates[0], statistics.median(rates), rates[-1]
        print(f"  {name:<28}{low:9.1f}{middle:9.1f}{high:9.1f} /s   ours x{ratio:.2f}")
    return rows


if __name__ == "__main__":
    main()
