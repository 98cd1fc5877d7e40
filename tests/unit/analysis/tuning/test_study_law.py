"""A study's law.json is read as it was written, also by versions before the file had a type."""

import json

import pytest

from analysis.tuning.answer import fit_lr
from analysis.tuning.study_law import FittedLaws, StudyLaw, StudyLawError
from analysis.tuning.trials import read_lr_table
from tests.conftest import ROOT

TUNING = ROOT / "tests" / "data" / "tuning"
# Written from study.csv by the version before this model existed.
WRITTEN = (TUNING / "law.json").read_text()


@pytest.fixture(scope="module")
def fit():
    return fit_lr(read_lr_table(TUNING / "study.csv").frame)


def save(folder, text):
    folder.mkdir()
    (folder / "law.json").write_text(text)
    return folder / "law.json"


def test_a_law_written_before_the_model_loads_and_is_written_again_alike(tmp_path):
    law = StudyLaw.load(save(tmp_path / "lr-batch", WRITTEN))
    assert law.text() == WRITTEN
    assert law.recipe.lr.coef > 0
    assert law.support.N[0] == law.optima[0].N


def test_a_fit_is_written_with_the_keys_of_the_old_file(fit):
    document = StudyLaw.of(fit, study="lr-batch", data="d" * 64).document()
    assert document == {"study": "lr-batch", "data": "d" * 64, **FittedLaws.of(fit).document()}
    assert list(document) == list(json.loads(WRITTEN))
    assert [list(row) for row in document["optima"]] == [
        list(row) for row in json.loads(WRITTEN)["optima"]
    ]


def test_a_study_of_before_recipes_is_told_how_to_get_one(tmp_path):
    old = json.loads(WRITTEN)
    del old["recipe"]
    with pytest.raises(StudyLawError, match=r"recipe: Field required.* isoflop tune first"):
        StudyLaw.load(save(tmp_path / "first", json.dumps(old)))


def test_the_law_of_the_file_is_the_law_of_the_fit(fit):
    law = StudyLaw.of(fit, study="lr-batch", data="d" * 64)
    for ours, theirs in ((law.lr, fit.lr), (law.recipe.lr, fit.recipe_lr), (law.batch, fit.batch)):
        assert ours.at(2e4, 4e5) == theirs.at(2e4, 4e5)


def test_numbers_are_the_constants_that_are_identified(fit):
    law = StudyLaw.of(fit, study="s", data="d")
    numbers = law.numbers()
    assert numbers["lr_coef"] == fit.lr.coef
    without = law.model_copy(update={"lr": law.lr.model_copy(update={"exponent_N": None})})
    assert set(numbers) - set(without.numbers()) == {"lr_exponent_N"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [("{", "file: Invalid JSON"), ("[]", "file: "), ('{"study": 1}', "lr: "), (None, "No such")],
)
def test_a_damaged_file_names_study_reason_and_mend(tmp_path, content, reason):
    path = tmp_path / "s1" / "law.json"
    if content is not None:
        save(path.parent, content)
    with pytest.raises(StudyLawError, match=f"study s1: .*{reason}.*isoflop tune s1"):
        StudyLaw.load(path)


def test_a_key_that_is_not_of_the_format_is_refused(tmp_path):
    path = save(tmp_path / "s", json.dumps(json.loads(WRITTEN) | {"speed": 1}))
    with pytest.raises(StudyLawError, match="speed: "):
        StudyLaw.load(path)
