"""A sweep and the one it continues: their runs are one table."""

from dataclasses import dataclass

from flows.plans.stored import read_plan
from flows.settings import Home
from sweeps.plan import Plan


@dataclass(frozen=True, slots=True)
class Joined:
    """A sweep with the runs of those it continues.

    Attributes:
        plan: the sweep's, with the runs of the first sweep first.
        sentences: which sweeps they are of, or why one is missing; none for a sweep alone.
    """

    plan: Plan
    sentences: tuple[str, ...] = ()


def joined(planned: Plan, home: Home) -> Joined:
    """A sweep with the runs of the sweep that its spec continues, and so on.

    A sweep that is not in this home, or that was trained on other text, is named and left out.
    """
    whole, first, names = planned, planned, [planned.spec.name]
    missing = ""
    while not missing and (name := first.spec.continues) is not None and name not in names:
        earlier = read_plan(home, name)
        if earlier is None:
            missing = f"sweep {name} is not in this home"
        elif earlier.data != planned.data:
            missing = f"sweep {name} was trained on other text"
        else:
            had = {run.id for run in whole.runs}
            # Under one sweep's name the rows are one group of a fit; the run's own says whence.
            runs = [
                run.model_copy(update={"sweep": planned.spec.name, "name": f"{name}/{run.name}"})
                for run in earlier.runs
                if run.id not in had
            ]
            whole, first = whole.model_copy(update={"runs": (*runs, *whole.runs)}), earlier
            names.insert(0, name)
    sentences = []
    if len(names) > 1:
        sentences.append(f"The losses of {' and '.join(names)} are one table.")
    if missing:
        sentences.append(f"The losses of what it continues are missing: {missing}.")
    return Joined(whole, tuple(sentences))
