"""Everything about a GPU in one run under eight minutes: correctness, speed, many small models.

The machine needs Python 3.12, PyTorch with CUDA, numpy, safetensors and pydantic; transformers and
pytest take part if they can be imported. Without a network there, pydantic's wheels travel: here

    pip download pydantic zstandard --only-binary :all: --python-version 3.12 \
        --platform manylinux2014_x86_64 -d build/wheels

(`build/` is ignored by git, so name `build/wheels` where carried folders are named), and there

    pip install --no-index --find-links build/wheels pydantic zstandard
    python bench/gpu_check.py --json out.json

Parts, in this order: `tests` marked gpu; `resume` to the bit; `speed` of 124M and 1B, eager and
compiled, against transformers with flash attention and compiled, and what the kernels of a step of
ours take; `many` models of 1M and 10M one after another, stacked, and in several processes; a small
`sweep` to its losses. A part that fails says why and the others run; what does not fit in
`--limit-s` is left out by name. `--device cpu --tiny` tries the script itself.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.gpu_models import ENDLESS, LARGE, SMALL, TINY, Here, Shape, huggingface, ours, rate
from llama_core.config import Placement
from llama_core.counting import count_params, train_flops
from llama_core.machine import peak_flops
from llama_core.records import EvalRecord, Record, StepRecord
from llama_core.stacked.member import Training
from llama_core.stacked.train import train_stacked
from llama_core.train import train

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]


def tests(here: Here) -> list[Row]:
    """The tests that need a GPU, in a process of their own."""
    if importlib.util.find_spec("pytest") is None:
        print("  pytest is not installed here: the tests marked gpu did not run.")
        return [{"ran": False, "reason": "pytest is not installed"}]
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"),
        # This project's pytest options need plugins that such a machine lacks.
        *("-c", os.devnull, "--rootdir", str(ROOT), "--noconftest", "--import-mode=importlib"),
        str(ROOT / "tests/unit/llama_core/test_gpu.py"),
    ]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    print("  " + "\n  ".join(answer.stdout.strip().splitlines()[-20:]))
    return [{"ran": True, "exit": answer.returncode, "output": answer.stdout[-4000:]}]


def resume(here: Here) -> list[Row]:
    """A training stopped twice and resumed, against one in one go: the losses to the bit."""
    shape, rows = TINY if here.tiny else SMALL["1M"][0], []
    cfg, batches = shape.recipe(12, 20), shape.batches()
    for how in ("off", "on") if here.cuda else ("off",):
        placement = here.placement(compile=how, deterministic=True)

        def curve(folder: Path, stop_at: int, placement: Placement = placement) -> list[float]:
            calls = count(1)
            records = train(
                *(shape.model, cfg, batches), placement=placement, checkpoints=folder,
                stop=lambda: next(calls) == stop_at,
            )  # fmt: skip
            return [
                record.loss if isinstance(record, StepRecord) else record.val_loss
                for record in records
                if isinstance(record, StepRecord | EvalRecord)
            ]

        with tempfile.TemporaryDirectory() as scratch:
            whole = curve(Path(scratch) / "whole", 0)
            folder = Path(scratch) / "parts"
            parts = [loss for stop in (5, 12, 0) for loss in curve(folder, stop)]
        equal = whole == parts
        rows.append({"compile": how, "equal": equal, "losses": len(whole)})
        print(f"  compile={how}: {len(whole)} losses, {'equal' if equal else 'NOT EQUAL'}")
    return rows


def speed(here: Here) -> Iterator[Row]:
    """Ours and transformers, eager and compiled, each at every size."""
    field = {"ours": ours}
    if importlib.util.find_spec("transformers"):
        field["transformers"] = huggingface
    for size, shape in {"tiny": TINY}.items() if here.tiny else LARGE.items():
        for how in ("on", "off") if here.cuda else ("off",):  # a CPU compiles for too long
            for contender, make in field.items():
                here.forget()
                step = make(shape, here, how)
                speeds = rate(step, shape.batch_tokens, here)
                yield speed_row(here, size, f"{contender}, compile={how}", shape, speeds)
                if contender == "ours" and how == ("on" if here.cuda else "off"):
                    yield {"size": size, "kernels": kernels(step, here)}
                del step


def speed_row(here: Here, size: str, name: str, shape: Shape, speeds: list[float]) -> Row:
    """Print and return a contender's numbers."""
    model, median = shape.model, statistics.median(speeds)
    flops = median * train_flops(model, shape.seq_len, shape.seq_len) / shape.seq_len
    peak = peak_flops(torch.device(here.device), "bfloat16")
    memory = torch.cuda.max_memory_allocated() / 2**30 if here.cuda else None
    mfu = flops / peak if peak else None
    print(
        f"  {size:5s} N={count_params(model).n_params:,} {name:25s} "
        f"{min(speeds):,.0f} {median:,.0f} {max(speeds):,.0f} tok/s, {flops / 1e12:.2f} TFLOP/s, "
        f"MFU {f'{mfu:.1%}' if mfu else 'of an unknown peak'}"
        + (f", {memory:.1f} GiB" if memory else "")
    )
    return {"size": size, "contender": name, "tokens_per_s": speeds, "mfu": mfu, "gib": memory}


def kernels(step: Callable[[], object], here: Here) -> list[Row]:
    """What takes the time of three steps: the ten longest kernels, as shares of all."""
    activity = torch.profiler.ProfilerActivity
    kind = activity.CUDA if here.cuda else activity.CPU
    with torch.profiler.profile(activities=[kind]) as profiled:
        for _ in range(3):
            step()
        here.wait()
    field = "self_device_time_total" if here.cuda else "self_cpu_time_total"
    spent = {each.key: float(getattr(each, field)) for each in profiled.key_averages()}
    whole = sum(spent.values()) or 1.0
    longest = sorted(spent, key=lambda name: -spent[name])[:10]
    for name in longest[:5] if here.tiny else longest:
        print(f"    {spent[name] / whole:6.1%} {name[:80]}")
    return [{"kernel": name, "share": spent[name] / whole} for name in longest]


def many(here: Here) -> Iterator[Row]:
    """Tokens per second of all models together, over those of one after another."""
    for size, (shape, models, processes) in (
        {"tiny": (TINY, 3, 2)}.items() if here.tiny else SMALL.items()
    ):
        alone: dict[str, float] = {}
        for how in ("off", "on") if here.cuda else ("off",):
            here.forget()
            speeds = rate(ours(shape, here, how), shape.batch_tokens, here)
            alone[how] = statistics.median(speeds)
            yield many_row(size, f"one after another, compile={how}", alone[how], alone)
        here.forget()
        cfgs = [shape.recipe(ENDLESS, lr=1e-3 * (1 + place / models)) for place in range(models)]
        trainings = [Training(cfg, batches) for batches in [shape.batches()] for cfg in cfgs]
        records = train_stacked(shape.model, trainings, placement=here.placement())
        speeds = rate(
            lambda records=records, models=models: [next(records) for _ in range(models)],
            models * shape.batch_tokens,
            here,
        )
        yield many_row(size, f"{models} stacked", statistics.median(speeds), alone)
        del records
        here.forget()
        together = in_processes(shape, here, processes)
        yield many_row(size, f"{processes} processes", together, alone)


def many_row(size: str, name: str, tokens_per_s: float, alone: dict[str, float]) -> Row:
    """Print and return the numbers of a way to train many."""
    times = tokens_per_s / max(alone.values())
    print(f"  {size:4s} {name:30s} {tokens_per_s:12,.0f} tok/s, x{times:.2f} of the best alone")
    return {"size": size, "how": name, "tokens_per_s": tokens_per_s, "over_alone": times}


def in_processes(shape: Shape, here: Here, processes: int) -> float:
    """Tokens per second of several processes that train a model each, at the same time."""
    context = multiprocessing.get_context("spawn")
    lines: list[Connection] = []
    children = []
    for _ in range(processes):
        line, theirs = context.Pipe()
        child = context.Process(target=serve, args=(shape, here, theirs), daemon=True)
        child.start()
        theirs.close()  # so that receiving from a dead process fails at once
        lines.append(line)
        children.append(child)
    for line in lines:
        line.recv()  # ready
    for line in lines:
        line.send("go")
    speeds = [float(line.recv()) for line in lines]
    for child in children:
        child.join()
    return sum(speeds)


def serve(shape: Shape, here: Here, line: Connection) -> None:
    """A process of its own: warm up, wait for the others, train for some seconds."""
    torch.set_num_threads(1)
    step = ours(shape, here, "off")
    for _ in range(5):
        step()
    here.wait()
    line.send("ready")
    line.recv()
    started, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < (0.5 if here.tiny else 6.0):
        step()
        steps += 1
    line.send(steps * shape.batch_tokens / elapsed)


def sweep(here: Here) -> Iterator[Row]:
    """Three widths, three horizons each, kept as a sweep keeps them: every loss must fall."""
    steps = (4, 8, 16) if here.tiny else (100, 200, 400)
    for width in (32, 64, 96) if here.tiny else (128, 256, 384):
        shape = Shape(
            width, 2 if here.tiny else 4, width // 32, 512, 64 if here.tiny else 512, 8, 8
        )
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            records: list[Record] = list(
                train(
                    *(shape.model, shape.recipe(*steps), shape.batches()),
                    placement=here.placement(),
                    checkpoints=Path(scratch) / "checkpoints",
                )
            )
            weights = len(list(Path(scratch).glob("final_*.safetensors")))
        losses = [record.val_loss for record in records if isinstance(record, EvalRecord)]
        falls = losses == sorted(losses, reverse=True) and weights == len(losses) == len(steps)
        shown = ", ".join(f"{loss:.4f}" for loss in losses)
        print(
            f"  d{width:<4} losses {shown}, {time.perf_counter() - started:.1f} s"
            + ("" if falls else "  NOT AS EXPECTED")
        )
        yield {"width": width, "val_losses": losses, "as_expected": falls}


PARTS: dict[str, Callable[[Here], Any]] = {
    "tests": tests, "resume": resume, "speed": speed, "many": many, "sweep": sweep,
}  # fmt: skip


def header(here: Here) -> Row:
    """What the numbers belong to."""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    )
    versions = {
        name: sys.modules[name].__version__ if name in sys.modules else None
        for name in ("torch", "numpy", "pydantic")
    }
    return {
        "device": torch.cuda.get_device_name() if here.cuda else "cpu",
        "gib": torch.cuda.mem_get_info()[1] / 2**30 if here.cuda else None,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "commit": git.stdout.strip() or None,
        "rounds": here.rounds,
    } | versions


def main() -> None:
    """Run the parts that are named and write JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="shapes that only try the script")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit-s", type=float, default=450, help="no row begins after this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("no CUDA device here; `--device cpu --tiny` tries the script itself.")
    here = Here(options.device, options.tiny, 2 if options.tiny else options.rounds)
    started = time.monotonic()
    document: Row = header(here)
    print(json.dumps(document))
    for name in options.parts:
        print(f"{name} (at {time.monotonic() - started:.0f} s)", flush=True)
        rows = document[name] = []
        try:
            for row in PARTS[name](here) if time.monotonic() - started < options.limit_s else ():
                rows.append(row)
                sys.stdout.flush()
                if time.monotonic() - started > options.limit_s:
                    break
            if time.monotonic() - started > options.limit_s:
                document[f"{name}_left_out"] = f"{options.limit_s:.0f} s are over"
                print(f"  {options.limit_s:.0f} s are over: what is left of {name} is left out.")
        except Exception:
            document[f"{name}_error"] = traceback.format_exc()
            print("  FAILED\n" + traceback.format_exc())
        if options.json:
            options.json.write_text(json.dumps(document, indent=1))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
