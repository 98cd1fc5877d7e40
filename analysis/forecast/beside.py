"""What other methods say about N* at a forecast's budget: approaches 2 and 3."""

from dataclasses import dataclass

from analysis.fit.isoflop import IsoflopFit, fit_isoflop
from analysis.fit.options import FitOptions
from analysis.fit.parametric import fit_parametric
from analysis.law import Constants, ForecastForm, LossLaw
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


@dataclass(frozen=True, slots=True)
class Beside:
    """Approach 2, and approach 3 of either form, fitted to a table."""

    isoflop: IsoflopFit
    laws: tuple[LossLaw, ...]

    def at(self, flops: float) -> tuple[Other, ...]:
        """Their N* at C = 6·N·D; approach 2 has one where the table has budgets."""
        each = [*approach_2(self.isoflop, flops)]
        for law in self.laws:
            N, D = Constants.of(law).compute_optimal(flops)
            loss = float(law.loss(N, D))
            each.append(Other(f"approach 3, {law.form}", float(N), float(D), loss))
        return tuple(each)


def fit_beside(table: Table) -> Beside:
    """The other methods' fits; of approach 3 the forms with fewer constants than there are rows."""
    forms: tuple[ForecastForm, ...] = ("chinchilla", "gamma")
    fits = (
        fit_parametric(table, FitOptions(form, bootstrap=0))
        for form in forms
        if table.used.height > len(FREE[form])
    )
    return Beside(fit_isoflop(table.used), tuple(fit.law for fit in fits))


def approach_2(fit: IsoflopFit, flops: float) -> tuple[Other, ...]:
    """Approach 2's N*; empty where it has no power laws."""
    if not (fit.N and fit.D):
        return ()
    return (Other("approach 2", fit.N.at(flops), fit.D.at(flops), None),)
