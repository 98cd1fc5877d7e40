"""Which runs may start under a cap. Arithmetic only; `flows.cost.ledger` has the measurements.

Amounts are in the cap's own unit: FLOPs, device-hours or dollars.
"""

import threading
from collections.abc import Callable, Mapping


class Budget:
    """Admits runs while the cost of ended, running and admitted runs stays within the cap.

    A run may start when it fits together with every cheaper run that waits. So the cap buys as
    many runs as possible, and a dispatcher may still start the longest of them first. A refused
    run may ask again when another has ended and left part of its estimate unused.

    A running run counts with its estimate, or with its cost until now if that is more. If finished
    runs cost more than estimated, the estimates of the others are raised by the same factor.
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
        estimates: by run id, the remaining cost of each run to be trained.
        measure: the cost of a run to this sweep until now.
        spent_before: the cost to this sweep of runs that will not train again.
        """
        self.cap = cap
        self._waiting = dict(sorted(estimates.items(), key=lambda item: (item[1], item[0])))
        self._measure = measure
        self._spent_before = spent_before + sum(measure(run) for run in estimates)
        # By running run: its estimate, and its cost when it started.
        self._running: dict[str, tuple[float, float]] = {}
        self._settled: dict[str, float] = {}
        self._finished_cost = self._finished_estimate = 0.0
        self._lock = threading.Lock()

    def admit(self, run: str) -> bool:
        """Whether the run may start now; if so it counts as running until `settle`.

        A run that is running already, as at a retry, goes on while all that runs still fits;
        else it waits again with what is left of its estimate.
        """
        with self._lock:
            committed = self._committed()
            if run in self._running:
                if committed > self.cap:
                    self._stop(run)
                return run in self._running
            for cheaper, estimate in self._waiting.items():
                committed += estimate * self._pace()
                if committed > self.cap:
                    return False
                if cheaper == run:
                    break
            self._running[run] = (self._waiting.pop(run), self._measure(run))
            return True

    def settle(self, run: str, *, finished: bool) -> None:
        """Count the cost of a run that has ended; nothing for a run never admitted.

        Args:
            finished: whether it trained to its end, so that its cost can correct the estimates.
        """
        with self._lock:
            if run not in self._running:
                return
            estimate, cost = self._end(run)
            if finished:
                self._finished_cost += cost
                self._finished_estimate += estimate

    @property
    def spent(self) -> float:
        """The cost to the sweep until now, running runs as measured."""
        with self._lock:
            running = sum(self._measure(run) - before for run, (_, before) in self._running.items())
            return self._spent_before + sum(self._settled.values()) + running

    @property
    def committed(self) -> float:
        """`spent`, with a running run's estimate where that is more."""
        with self._lock:
            return self._committed()

    @property
    def left_out(self) -> dict[str, float]:
        """Estimates of the runs that were not admitted, cheapest first."""
        with self._lock:
            return {run: estimate * self._pace() for run, estimate in self._waiting.items()}

    def _stop(self, run: str) -> None:
        estimate, cost = self._end(run)
        self._waiting[run] = max(0.0, estimate - cost)
        self._waiting = dict(sorted(self._waiting.items(), key=lambda item: (item[1], item[0])))

    def _end(self, run: str) -> tuple[float, float]:
        """Count the cost of a run that no longer runs; its estimate and that cost."""
        estimate, before = self._running.pop(run)
        cost = self._measure(run) - before
        self._settled[run] = self._settled.get(run, 0.0) + cost
        return estimate, cost

    def _committed(self) -> float:
        committed = self._spent_before + sum(self._settled.values())
        for run, (estimate, before) in self._running.items():
            committed += max(estimate * self._pace(), self._measure(run) - before)
        return committed

    def _pace(self) -> float:
        if not self._finished_estimate:
            return 1.0
        return max(1.0, self._finished_cost / self._finished_estimate)
