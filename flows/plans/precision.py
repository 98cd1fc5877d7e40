"""`dtype: auto`: the precision that this machine trains a plan's shapes fastest in."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from flows.files import read_record, write_whole
from flows.plans.stored import read_plan
from flows.runs.provenance import processor
from flows.settings import Home
from llama_core.config import Frozen, ModelConfig, Placement, TrainConfig
from llama_core.counting import count_params
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef, SweepSpec

Dtype = Literal["float32", "bfloat16"]
Training = tuple[ModelConfig, TrainConfig]
# bf16 must be faster by more than a timing is wrong.
_FASTER = 1.05
# Largest difference of the losses of a trial, in nats per token: seeds differ by more
# (docs/decisions/0016-compile-when-it-pays.md).
_ALIKE = 0.02
# Sweeps whose largest model has fewer parameters than this are of one class: they share a choice,
# so that sweeps on one machine share runs.
_SMALL = 10_000_000


class Precision(Frozen):
    """What a machine measured of bfloat16 for some shapes.

    Attributes:
        speedup: float32's time of a step over bfloat16's, the mean of the shapes.
        loss_gap: the largest difference between their losses after the same few steps.
    """

    device: str
    speedup: float
    loss_gap: float

    @property
    def dtype(self) -> Dtype:
        """The one to train in."""
        faster = self.speedup > _FASTER and self.loss_gap < _ALIKE
        return "bfloat16" if faster else "float32"


def with_dtype(spec: SweepSpec, home: Home) -> SweepSpec:
    """The spec with `dtype: auto` resolved, and that of its variants.

    A sweep that is in the home keeps the precision it was planned in.
    """
    autos = [part for part in spec.variants.values() if part.get("dtype") == "auto"]
    if spec.dtype != "auto" and not autos:
        return spec
    old, kept = read_plan(home, spec.name), dict[str, Dtype]()
    if old is not None:
        dtype = old.spec.run_dtype
        kept = {name: part.get("dtype", dtype) for name, part in old.spec.variants.items()}
    else:
        runs = [run.run for run in plan(spec, DataRef(digest="")).runs]
        dtype = fastest_dtype([(run.model, run.train) for run in runs], spec.placement, home)
    variants = {
        name: part | ({"dtype": kept.get(name, dtype)} if part in autos else {})
        for name, part in spec.variants.items()
    }
    chosen = dtype if spec.dtype == "auto" else spec.dtype
    return spec.model_copy(update={"dtype": chosen, "variants": variants})


def fastest_dtype(trainings: Sequence[Training], placement: Placement, home: Home) -> Dtype:
    """The precision for trainings on this machine, by the smallest and the largest of them.

    Measured once for a machine and a class of shapes, and kept in the home.
    """
    import torch

    from llama_core.machine import multiplies_bf16, resolve_device

    device = resolve_device(placement.device)
    if device.type == "cuda":
        # The ratio of the peaks is 8 or more wherever bf16 is not emulated.
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if fast else "float32"
    if not multiplies_bf16():
        return "float32"
    alone = _alone(placement)
    shapes = _ends(trainings)
    path = _path(shapes, alone, home)
    measured = read_record(path, Precision)
    if measured is None:
        ratios, gaps = zip(*(_compared(model, cfg, alone) for model, cfg in shapes), strict=True)
        measured = Precision(
            device=processor(), speedup=sum(ratios) / len(ratios), loss_gap=max(gaps)
        )
        if home.root.is_dir():
            path.parent.mkdir(exist_ok=True)
            write_whole(path, measured.model_dump_json())
    return measured.dtype


def measured_here(planned: Plan, home: Home) -> str | None:
    """What was measured for the precision of a plan, as a line; None where nothing was."""
    placement = planned.spec.placement
    if not _on_processor(placement):
        return None
    shapes = _ends([(run.run.model, run.run.train) for run in planned.runs])
    measured = read_record(_path(shapes, _alone(placement), home), Precision)
    if measured is None or measured.dtype != planned.spec.dtype:
        return None
    return (
        f"dtype {measured.dtype} on every machine of this sweep: on {measured.device}, where it "
        f"is planned, bfloat16 has {measured.speedup:.2f} times the speed of float32"
    )


def _on_processor(placement: Placement) -> bool:
    """Whether trainings so placed run on this machine's CPU."""
    import torch

    return placement.device == "cpu" or (
        placement.device == "auto" and not torch.cuda.is_available()
    )


def _alone(placement: Placement) -> Placement:
    """How a trial runs: on one thread unless the placement says, uncompiled."""
    return placement.model_copy(update={"threads": placement.threads or 1, "compile": "off"})


def _ends(trainings: Sequence[Training]) -> tuple[Training, Training]:
    """The smallest and the largest."""
    ordered = sorted(trainings, key=lambda each: count_params(each[0]).n_params)
    return ordered[0], ordered[-1]


def _path(shapes: tuple[Training, Training], placement: Placement, home: Home) -> Path:
    """The file of a machine and a class of shapes: one choice for all sweeps of it."""
    model, cfg = shapes[1]
    small = count_params(model).n_params < _SMALL
    parts = [processor(), version("torch"), placement.threads, cfg.seq_len, small]
    key = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]
    return home.timings / f"dtype-{key}.json"


def _compared(model: ModelConfig, cfg: TrainConfig, placement: Placement) -> tuple[float, float]:
    """How many times as fast bfloat16 is, and how far the losses are apart; tried in turn."""
    from llama_core.trial import made_up_batches, tried

    batches = made_up_batches(model, cfg)
    dtypes: tuple[Dtype, Dtype] = ("float32", "bfloat16")
    trials = [
        tried(model, cfg.model_copy(update={"dtype": dtype}), batches, placement)
        for dtype in dtypes * 2
    ]
    exact, rounded = trials[::2], trials[1::2]
    speedup = min(trial.step_s for trial in exact) / min(trial.step_s for trial in rounded)
    return speedup, abs(exact[0].loss - rounded[0].loss)
