"""The first view: lists of sweeps, studies and forecasts."""

import json
import re

from flows.dashboard.address import Address
from flows.dashboard.app import shown
from flows.dashboard.subjects import OWN, SweepSubject
from tests.dashboards import desk_of, text_of
from tests.simulated_home import simulated_sweep


def test_home_shows_every_sweep_with_state_budget_and_best_loss(desk):
    text = text_of(desk, Address())
    assert "made finished no law yet" in text
    assert "begun 1 of 8 finished so far, 2 of 31 losses: no law yet" in " ".join(text.split())
    assert "(100%)" in text
    assert "No forecast is registered" in text
    body = json.dumps(shown(desk, Address())[2], default=lambda each: each.to_plotly_json())
    assert "data:image/svg+xml;base64," in body
    assert "best loss from" in body


def test_among_many_sweeps_those_that_hold_some_words_are_shown(desk, monkeypatch):
    assert "Show sweeps" not in text_of(desk, Address())
    monkeypatch.setattr("flows.dashboard.screens.home._FEW", 2)
    assert "Show sweeps" in text_of(desk, Address())
    text = text_of(desk, Address((), {"q": "fin 8"}))
    assert "begun 1 of 8 finished" in text
    assert "beside" not in text


def test_a_sweep_that_trains_has_its_law_so_far_on_the_first_view(tmp_path):
    simulated_sweep(tmp_path, "halfway", finished=7)
    desk = desk_of(tmp_path)
    text = " ".join(text_of(desk, Address()).split())
    [row] = re.findall(r"halfway 7 of 8 finished so far, (\d+) of 31 losses: .*?so far", text)
    assert int(row) < 31
    exponent = re.search(r"(0\.\d\d) \[0\.\d\d, 0\.\d\d\] so far", text)
    findings = SweepSubject(desk, desk.library.sweep("halfway")).findings(OWN).value
    assert float(exponent[1]) == round(findings.group.fit.law.exponent_N, 2)


def test_a_damaged_law_leaves_the_home_to_be_seen(tmp_path):
    simulated_sweep(tmp_path, "made", finished=0)
    for damaged in (b'{"a":', b"\xff\xfe"):
        (tmp_path / "sweeps" / "made" / "law.json").write_bytes(damaged)
        assert "made planned no law yet" in text_of(desk_of(tmp_path), Address())
