"""Two sweeps of a home compared: their settings, speeds and laws, in text, JSON and page."""

import json
from functools import cache

import pytest

from flows.answers import compare as answers
from flows.answers.compare import compare_sides
from flows.commands.compare import compare
from flows.files import write_whole
from flows.plans.plan import sweep_folder
from flows.results.compare import compared_table
from flows.runs.provenance import Provenance
from flows.settings import Settings, open_home
from sweeps.load import load_spec
from sweeps.plan import Plan
from sweeps.spec import DataRef
from tests.fakes import finished_run, planned_run


def stored(home, name, widths, *overrides):
    runs = tuple(planned_run(width=width, sweep=name) for width in widths)
    spec = load_spec("smoke", [f"name={name}", *overrides])
    plan = Plan(spec=spec, data=DataRef(digest="x"), runs=runs, warnings=())
    write_whole(sweep_folder(plan, home) / "plan.json", plan.model_dump_json())
    for planned in runs:
        run = finished_run(home.root, planned)
        made = Provenance(device_name="a CPU", tokenizer_sha256="ab" * 32)
        run.provenance_path.write_text(made.model_dump_json())
    return plan


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path))
    home = open_home(Settings(home=tmp_path))
    stored(home, "mine", (16, 32, 48))
    stored(home, "other", (16, 32, 48), "seeds=[1]")
    return home


def test_a_sweeps_table_has_the_speed_device_and_tokenizer_of_each_run(home):
    plan = stored(home, "third", (16, 32))
    frame = compared_table(plan, home).frame
    assert frame["name"].to_list() == ["d16", "d16", "d32", "d32"]
    # The fake's steps run at 50,000 tokens/s and one more for each: 1 to 40, and 15 to 20 again.
    assert frame["tokens_per_s"].to_list() == [50_019.0] * 4
    assert set(frame["device"]) == {"a CPU"}
    assert set(frame["tokenizer"]) == {"ab" * 6}


def test_settings_come_before_the_laws_and_the_machine_after_them(
    home, capsys, tmp_path, monkeypatch
):
    # Both calls ask the same, and losses that no law has take seconds to fit.
    fitted = cache(lambda names, how: compare_sides(names, {}, how, home))
    monkeypatch.setattr(
        answers, "compare_sides", lambda names, columns, how, home: fitted(tuple(names), how)
    )
    compare("mine", "other", bootstrap=5, report=tmp_path / "page.html")
    printed = capsys.readouterr().out
    places = [printed.index(text) for text in ("seeds", "losses at the same", "device-hours")]
    assert places == sorted(places)
    assert "seeds" in (tmp_path / "page.html").read_text()
    compare("mine", "other", bootstrap=5, json="-")
    document = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in document["spec"]] == ["seeds"]
    assert document["variants"][0]["name"] == "other"
    assert document["speedup"] is None or document["speedup"]["matched_runs"] == 6


def test_other_text_is_said_before_any_number(home, capsys, tmp_path):
    plan = stored(home, "third", (16, 32, 48)).model_copy(update={"data": DataRef(digest="y")})
    write_whole(sweep_folder(plan, home) / "plan.json", plan.model_dump_json())
    compare("mine", "third", bootstrap=5, report=tmp_path / "page.html")
    printed, page = capsys.readouterr().out, (tmp_path / "page.html").read_text()
    words = "third: The sweeps trained and were validated on different text"
    assert printed.startswith(words)
    assert printed.count("different text") == page.count("different text") == 1
    assert page.index(f'<h1>third against mine</h1>\n<p class="warn">{words}') > 0


def test_other_tokenizers_are_refused(home, capsys):
    plan = stored(home, "third", (24,))
    run = finished_run(home.root, plan.runs[0])
    run.provenance_path.write_text(Provenance(tokenizer_sha256="cd" * 32).model_dump_json())
    with pytest.raises(SystemExit) as refusal:
        compare("mine", "third", bootstrap=5)
    assert refusal.value.code == 2
    assert "the tokenizers differ (tokenizer abababababab in mine" in capsys.readouterr().err
