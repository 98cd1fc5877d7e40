"""Laws of learning rate and batch that studies in this home have fitted."""

import logging

from analysis.tuning.study_law import StudyLaw, StudyLawError
from flows.settings import Home
from sweeps.choices import FittedLaw, LawRecipe
from sweeps.spec import SweepSpec

log = logging.getLogger(__name__)


def with_fitted_law(spec: SweepSpec, home: Home) -> SweepSpec:
    """The spec with its law's numbers in it, read from the study that it names.

    Raises:
        ValueError: there is no such study here, its file is damaged, or it has no law of the
            learning rate.
    """
    recipe = spec.recipe
    if not isinstance(recipe, LawRecipe) or recipe.fitted is not None:
        return spec
    path = home.tunes / recipe.study / "law.json"
    if not path.is_file():
        known = ", ".join(sorted(fitted_laws(home))) or "none yet"
        raise ValueError(
            f"recipe.study={recipe.study!r}: no fitted study of that name in {home.root}. "
            f"Studies there: {known}. Fit one with: isoflop tune lr-batch"
        )
    law = StudyLaw.load(path)
    lr, batch = law.recipe.lr, law.recipe.batch
    if lr.coef is None:
        raise ValueError(
            f"study {recipe.study!r} has no law of the learning rate: {'; '.join(lr.reasons)}."
        )
    fitted = FittedLaw(
        lr_coef=lr.coef,
        lr_exponent_N=lr.exponent_N or 0.0,
        lr_exponent_D=lr.exponent_D or 0.0,
        batch_coef=batch.coef,
        batch_exponent_D=batch.exponent_D or 0.0,
        N=law.support.N,
        D=law.support.D,
    )
    return spec.model_copy(update={"recipe": recipe.model_copy(update={"fitted": fitted})})


def fitted_laws(home: Home) -> dict[str, StudyLaw]:
    """Laws by the name of their study, the newest first; files that hold none are logged."""
    paths = sorted(
        home.tunes.glob("*/law.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    laws = {}
    for path in paths:
        try:
            laws[path.parent.name] = StudyLaw.load(path)
        except StudyLawError as error:
            log.warning("%s", error)
    return laws
