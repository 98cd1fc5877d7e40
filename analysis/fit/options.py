"""How a table is fitted."""

from dataclasses import dataclass

from analysis.law import Form
from analysis.solver.objective import HUBER, Objective


@dataclass(frozen=True, slots=True)
class FitOptions:
    """The form and objective of a fit, and its intervals.

    Attributes:
        objective: what is summed over rows and minimised.
        bootstrap: number of resamples; 0 for none.
        seed: of the resampling.
        level: of every interval.
        anyway: give N* and D* also under a law whose `trust` bars them.
        target_flops: budget of the profiles of N* and D*; None for ten times the table's largest.
    """

    form: Form = "chinchilla"
    objective: Objective = HUBER
    bootstrap: int = 1000
    seed: int = 0
    level: float = 0.9
    anyway: bool = False
    target_flops: float | None = None


# The procedure of Hoffmann et al. 2022, eq. 3.
DEFAULT = FitOptions()
