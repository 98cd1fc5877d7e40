"""Which runs may start under a cap. Arithmetic only; `flows.cost.ledger` brings the measurements.

Amounts are in the cap's own unit: FLOPs, device-hours or dollars.
"""

import threading
from collections.abc import Callable, Mapping


class Budget:
    """Admits runs while everything spent, under way and about to start stays within the cap.

    A run may start when it and every cheaper run that waits fit together. So the cap buys as many
    runs as it can, and a dispatcher may still start the longest of them first. Whoever was
    refused may ask again when a run has ended: what it did not use is free then.

    What is under way counts with its estimate, or with what it has cost by now if that is more.
    Where finished runs cost more than estimated, what has not finished is taken to do so too.
    """

    def __init__(
        self,
        cap: float,
        estimates: Mapping[str, float],
        measure: Callable[[str], float],
        *,
        spent_before: float = 0.0,
    ) -> None:
        """Args:
        estimates: by run id, what each run that is to be trained still costs.
        measure: what this sweep has spent on a run until now.
        spent_before: by this sweep on runs that will not train again.
        """
        self.cap = cap
        self._waiting = dict(sorted(estimates.items(), key=lambda item: (item[1], item[0])))
        self._measure = measure
        self._spent_before = spent_before + sum(measure(run) for run in estimates)
        # By run under way: its estimate, and what had been spent on it when it started.
        self._running: dict[str, tuple[float, float]] = {}
        self._settled: dict[str, float] = {}
        self._finished_cost = self._finished_estimate = 0.0
        self._lock = threading.Lock()

    def admit(self, run: str) -> bool:
        """Whether the run may start now; if so it counts as under way until `settle`.

        A run under way that asks again, as one that is tried again does, hears whether what is
        under way still fits.
        """
        with self._lock:
            committed = self._committed()
            if run in self._running:
                return committed <= self.cap
            for cheaper, estimate in self._waiting.items():
                committed += estimate * self._pace()
                if committed > self.cap:
                    return False
                if cheaper == run:
                    break
            self._running[run] = (self._waiting.pop(run), self._measure(run))
            return True

    def settle(self, run: str, *, finished: bool) -> None:
        """The run has ended; what it did not use is free. One never admitted changes nothing.

        Args:
            finished: it came to its end, so its cost says how good estimates are.
        """
        with self._lock:
            if run not in self._running:
                return
            estimate, before = self._running.pop(run)
            cost = self._measure(run) - before
            self._settled[run] = cost
            if finished:
                self._finished_cost += cost
                self._finished_estimate += estimate

    @property
    def spent(self) -> float:
        """What the sweep has spent until now, runs under way as measured."""
        with self._lock:
            running = sum(self._measure(run) - before for run, (_, before) in self._running.items())
            return self._spent_before + sum(self._settled.values()) + running

    @property
    def left_out(self) -> dict[str, float]:
        """Estimates of the runs that were not admitted, cheapest first."""
        with self._lock:
            return {run: estimate * self._pace() for run, estimate in self._waiting.items()}

    def _committed(self) -> float:
        committed = self._spent_before + sum(self._settled.values())
        for run, (estimate, before) in self._running.items():
            committed += max(estimate * self._pace(), self._measure(run) - before)
        return committed

    def _pace(self) -> float:
        if not self._finished_estimate:
            return 1.0
        return max(1.0, self._finished_cost / self._finished_estimate)
