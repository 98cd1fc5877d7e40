"""What the options of `isoflop sweep` ask for is checked before its corpus is looked for."""

import pytest

from flows.cli import app


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--slots", "0"), "--slots 0 is less than one."),
        (("--json", "nowhere/law.json"), "--json nowhere/law.json: there is no folder"),
        (("--max-failures", "-1"), "--max-failures -1 is less than zero."),
        (("--max-failures", "2", "--fail-fast"), "--fail-fast allows no failure"),
    ],
)
def test_an_option_is_refused_before_the_corpus_is_prepared(
    option, words, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))

    def prepared(*_):
        raise AssertionError("the corpus was prepared in vain")

    monkeypatch.setattr("flows.plans.plan.make_plan", prepared)
    with pytest.raises(SystemExit) as ended:
        app(["sweep", "smoke", *option], result_action="return_value")
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
