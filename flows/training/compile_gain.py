"""Whether compiling a run's model pays: seconds saved while it trains against seconds to compile.

A home keeps what it measured of a shape on a device. What it has not measured is expected to be as
it was for the device's other shapes, and before those as docs/decisions/0016 says.
"""

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat

from flows.files import read_record, write_whole
from flows.runs.attempts import CompileChoice
from llama_core.config import Frozen, ModelConfig

# Measured on shapes of the demo (docs/decisions/0016-compile-when-it-pays.md).
USUAL_SAVING = 0.2
USUAL_COLD_S, USUAL_WARM_S = 32.0, 5.0


class StepTimes(Frozen):
    """What a home measured of the steps of one shape on one device.

    Attributes:
        eager_s: of a micro-step.
        compiled_s: of a compiled one; None where it was never compiled here.
        cold_s: what its compilation took; None where a graph was kept.
    """

    device: str
    eager_s: PositiveFloat
    compiled_s: PositiveFloat | None = None
    cold_s: NonNegativeFloat | None = None

    @property
    def saving(self) -> float | None:
        """Share of a step that compilation saves; negative where it costs."""
        return None if self.compiled_s is None else 1 - self.compiled_s / self.eager_s


class MicroStep(Frozen):
    """What a graph is compiled for."""

    model: ModelConfig
    rows: int
    seq_len: int
    dtype: str

    @property
    def tokens(self) -> int:
        """Tokens of one."""
        return self.rows * self.seq_len


@dataclass(frozen=True, slots=True)
class StepRecords:
    """The step times kept in a home, by shape, device and torch."""

    folder: Path
    device: str
    threads: str

    def read(self, shape: MicroStep) -> StepTimes | None:
        """What is known of a shape."""
        return read_record(self._path(shape), StepTimes)

    def write(self, shape: MicroStep, times: StepTimes) -> None:
        """Keep what was measured of a shape."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(shape), times.model_dump_json())

    def others(self) -> list[StepTimes]:
        """What is known of all shapes on this device."""
        paths = sorted(self.folder.glob(f"{self._prefix()}-*.json"))
        return [times for path in paths if (times := read_record(path, StepTimes)) is not None]

    def _path(self, shape: MicroStep) -> Path:
        return self.folder / f"{self._prefix()}-{_digest(shape.model_dump_json())}.json"

    def _prefix(self) -> str:
        return _digest("\n".join([self.device, self.threads, version("torch")]))


def choose(
    steps: float, eager_s: float, *, times: StepTimes | None, others: Sequence[StepTimes], runs: int
) -> CompileChoice:
    """Compile a run if that is expected to save time.

    Args:
        steps: micro-steps of the run.
        eager_s: seconds of one, uncompiled.
        times: what is known of its shape; None for nothing.
        others: what is known of all shapes on the device.
        runs: trainings of its shape still to come, this one included: they share its graph.
    """
    whole_s = steps * eager_s
    if times is not None and times.saving is not None:
        saved, cost = whole_s * times.saving, USUAL_WARM_S
        source = "measured here"
    else:
        savings = [each.saving for each in others if each.saving is not None]
        colds = [each.cold_s for each in others if each.cold_s is not None]
        share = statistics.median(savings) if savings else USUAL_SAVING
        cold_s = statistics.median(colds) if colds else USUAL_COLD_S
        # The run compiles for those that follow it.
        saved = whole_s * share
        cost = (cold_s + (runs - 1) * USUAL_WARM_S) / runs
        source = "as other shapes here" if savings else "as measured elsewhere"
    gain_s = saved - cost
    reason = f"would save {saved:.0f} s of {whole_s:.0f} s for {cost:.0f} s, {source}"
    if saved <= 0:
        reason = f"compiled steps are no faster, {source}"
    return CompileChoice(compiled=gain_s > 0, reason=reason, gain_s=gain_s)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
