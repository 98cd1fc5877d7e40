"""Steps launched on a device before the numbers of those before them are read."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


def steps_ahead(device: torch.device) -> int:
    """Steps that may be launched before their numbers are read.

    A GPU that is asked for a loss after every step stands idle until the next one is launched. A
    CPU has the numbers when the step returns.
    """
    return 1 if device.type == "cuda" else 0


def to_device(rows: Tensor, device: torch.device) -> Tensor:
    """Rows on the device; from pinned memory to a GPU, so that the copy waits for no kernel."""
    if device.type != "cuda":
        return rows.to(device)
    return rows.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """A step and its numbers.

    Attributes:
        loss: mean over the batch's tokens, nats.
        elapsed_s: since the step before was finished, or since this one was started.
    """

    step: int
    lr: float
    loss: float
    grad_norm: float
    elapsed_s: float


class LaunchedSteps:
    """Steps that were launched and whose numbers are not read yet, in order."""

    def __init__(self, batch_tokens: int) -> None:
        self._batch_tokens = batch_tokens
        self._steps: deque[tuple[int, float, float, _Copy]] = deque()
        self._finished_at = 0.0

    def add(
        self, step: int, lr: float, started: float, loss_sum: Tensor, grad_norm: Tensor
    ) -> None:
        """A step launched now.

        Args:
            started: a reading of `time.perf_counter`.
            loss_sum: over the batch's tokens, nats.
        """
        numbers = torch.stack((loss_sum.detach(), grad_norm.detach().to(loss_sum.dtype)))
        self._steps.append((step, lr, started, _Copy(numbers)))

    def finish(self, *, leave: int) -> Iterator[FinishedStep]:
        """Read the numbers of all steps but the last `leave`, waiting for each."""
        while len(self._steps) > leave:
            step, lr, started, copy = self._steps.popleft()
            loss_sum, grad_norm = copy.read()
            now = time.perf_counter()
            elapsed_s = now - max(started, self._finished_at)
            self._finished_at = now
            yield FinishedStep(step, lr, loss_sum / self._batch_tokens, grad_norm, elapsed_s)


class _Copy:
    """Numbers on their way from a device: reading waits for them, but for no later kernel."""

    def __init__(self, numbers: Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        self._numbers = numbers
        if numbers.device.type == "cuda":
            self._numbers = numbers.to("cpu", non_blocking=True)
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def read(self) -> list[float]:
        if self._done is not None:
            self._done.synchronize()
        numbers: list[float] = self._numbers.tolist()
        return numbers
