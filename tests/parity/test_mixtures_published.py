"""The law of RegMix's 512 mixtures, by its ranks on mixtures held out; needs ISOFLOP_PUBLISHED."""

import os
from pathlib import Path

import numpy as np
import pytest

from analysis.mixtures.choice import chosen, cross_validate
from analysis.mixtures.rows import read_mixtures
from analysis.table.files import read_contents

pytestmark = pytest.mark.slow


def test_the_chosen_law_ranks_mixtures_held_out_of_regmix() -> None:
    folder = os.environ.get("ISOFLOP_PUBLISHED")
    if not folder:
        pytest.skip("regmix_1m.csv is read from the folder in ISOFLOP_PUBLISHED, which is not set")
    contents = read_contents(Path(folder) / "published" / "regmix_1m.csv")
    table = read_mixtures(contents, mapping={})
    score = chosen(cross_validate(table, np.full(13, 1 / 13)))
    # Boosted trees reach 0.987 and 0.948 in two minutes, a ridge 0.976 and 0.952.
    assert score.rank.mean() > 0.99
    assert score.pooled_rank > 0.985
    assert score.r2.mean() > 0.975
    # Standard deviations of held-out errors agree with the law's own.
    off = (np.log(table.losses) - score.log_losses) / score.spread
    assert 0.9 < off.std() < 1.1
