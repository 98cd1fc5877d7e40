"""What other methods say about N* at a forecast's budget: approaches 2 and 3."""

from dataclasses import dataclass

from analysis.fit.isoflop import IsoflopFit, fit_isoflop
from analysis.fit.options import FitOptions
from analysis.fit.parametric import fit_parametric
from analysis.law import Constants
from analysis.solver.problem import FREE
from analysis.table.observations import Table

# N* that differ by more tell the reader that the choice of method decides.
_APART = 1.5


@dataclass(frozen=True, slots=True)
class Other:
    """Another method's N* at the budget, and its loss there; approach 2 has no loss."""

    name: str
    n_opt: float
    d_opt: float
    loss: float | None

    def apart(self, n_opt: float) -> bool:
        """Whether its N* is more than 1.5 times another, or less than its 1.5th part."""
        return max(self.n_opt / n_opt, n_opt / self.n_opt) > _APART


def others(table: Table, flops: float) -> tuple[Other, ...]:
    """Approach 2, where the table has budgets, and approach 3 of either form at C = 6·N·D."""
    each = [*approach_2(fit_isoflop(table.used), flops)]
    for form in ("chinchilla", "gamma"):
        if table.used.height <= len(FREE[form]):
            continue
        law = fit_parametric(table, FitOptions(form, bootstrap=0)).law
        N, D = Constants.of(law).compute_optimal(flops)
        loss = float(law.loss(N, D))
        each.append(Other(f"approach 3, {form}", float(N), float(D), loss))
    return tuple(each)


def approach_2(fit: IsoflopFit, flops: float) -> tuple[Other, ...]:
    """Approach 2's N*; empty where it has no power laws."""
    if not (fit.N and fit.D):
        return ()
    return (Other("approach 2", fit.N.at(flops), fit.D.at(flops), None),)
