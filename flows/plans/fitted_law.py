"""Laws of learning rate and batch that studies in this home have fitted."""

import json
import logging
from typing import Any

from flows.settings import Home
from sweeps.spec import FittedLaw, LawRecipe, SweepSpec

log = logging.getLogger(__name__)


def with_fitted_law(spec: SweepSpec, home: Home) -> SweepSpec:
    """The spec with its law's numbers in it, read from the study that it names.

    Raises:
        ValueError: there is no such study here, or it does not tell the learning rate.
    """
    recipe = spec.recipe
    if not isinstance(recipe, LawRecipe) or recipe.fitted is not None:
        return spec
    laws = fitted_laws(home)
    if recipe.study not in laws:
        known = ", ".join(sorted(laws)) or "none yet"
        raise ValueError(
            f"recipe.study={recipe.study!r}: no fitted study of that name in {home.root}. "
            f"Studies there: {known}. Fit one with: isoflop tune lr-batch"
        )
    law = laws[recipe.study]
    lr, batch = law["recipe"]["lr"], law["recipe"]["batch"]
    if lr["coef"] is None:
        raise ValueError(
            f"study {recipe.study!r} does not tell the learning rate: {lr['reasons'][0]}."
        )
    fitted = FittedLaw(
        lr_coef=lr["coef"],
        lr_exponent_N=lr["exponent_N"],
        lr_exponent_D=lr["exponent_D"],
        batch_coef=batch["coef"],
        batch_exponent_D=batch["exponent_D"] or 0.0,
        N=law["support"]["N"],
        D=law["support"]["D"],
    )
    return spec.model_copy(update={"recipe": recipe.model_copy(update={"fitted": fitted})})


def fitted_laws(home: Home) -> dict[str, dict[str, Any]]:
    """Fitted laws by the name of their study, the newest first."""
    paths = sorted(
        home.tunes.glob("*/law.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    found = {path.parent.name: json.loads(path.read_text()) for path in paths}
    for study in [name for name, law in found.items() if "recipe" not in law]:
        log.warning("study %s has no recipe; isoflop tune %s adds it", study, study)
        del found[study]
    return found
