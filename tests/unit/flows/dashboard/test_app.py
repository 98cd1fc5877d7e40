"""What the callbacks and the routes answer, at every address; no browser, no server."""

import json
from base64 import b64encode

import pytest
from dash.exceptions import PreventUpdate

from flows.dashboard.address import Address
from flows.dashboard.app import changed, dropped, make_app, shown, ticked
from flows.dashboard.library import Library
from flows.dashboard.screens.at import screen_at
from flows.runs.directory import RunDir
from tests.dashboards import Never, desk_of, text_of, words
from tests.simulated import isoflops, table
from tests.simulated_home import simulated_sweep

# A page without parts, in whose place a whole body comes.
NO_PARTS = ([], [])


def test_a_view_that_fails_says_so_and_the_others_go_on(root, monkeypatch):
    desk = desk_of(root, Never)
    monkeypatch.setattr(Library, "curves", lambda *_: 1 / 0)
    assert "This view failed (ZeroDivisionError" in text_of(desk, Address(("sweep", "made")))
    assert "31 of 31 observations" in text_of(desk, Address(("sweep", "made", "runs")))


def test_a_dropped_table_is_fitted_and_has_an_address(desk, tmp_path):
    N, D = isoflops(budgets=3)
    text = table(N, D, noise=0.002).write_csv()
    contents = f"data:text/csv;base64,{b64encode(text.encode()).decode()}"
    there, refused, _ = dropped(desk, contents, "theirs.csv")
    assert not refused
    address = Address.of(there, "")
    shown_text = text_of(desk, address)
    assert "Table theirs.csv" in shown_text
    assert "N* grows as C^" in shown_text
    assert "answer = isoflop.fit('theirs.csv')" in shown_text
    assert "Train" in text_of(desk, Address((*address.path, "frontier")))
    assert "is not here" in text_of(desk_of(tmp_path), address)


def test_a_dropped_file_that_is_no_table_says_what_is_wrong_with_it(desk):
    _, refused, role = dropped(desk, f"data:;base64,{b64encode(b'a,b').decode()}", "x.csv")
    assert "no rows" in refused or "no column" in refused
    assert role == "warn"


def test_a_control_changes_the_body_and_the_address_and_an_unchanged_one_nothing(desk):
    address = Address(("sweep", "made", "runs"), {"sort": "loss"})
    body, *_, search, _ = changed(desk, address, {"q": "d64"}, NO_PARTS)
    assert Address.of("/sweep/made/runs", search).query == {"sort": "loss", "q": "d64"}
    assert "d96" not in words(body)
    with pytest.raises(PreventUpdate):
        changed(desk, address, {"q": ""}, NO_PARTS)
    [gone], *_ = changed(desk, Address(("sweep", "gone", "runs")), {"q": "d64"}, NO_PARTS)
    assert "no sweep 'gone'" in " ".join(words(gone))


def test_a_new_step_is_seen_at_the_next_tick_and_nothing_else_is_sent(tmp_path):
    planned = simulated_sweep(tmp_path, "live", finished=3)
    unfinished = RunDir(tmp_path / "runs" / planned.runs[2].id)
    unfinished.result_path.unlink()
    steps = [line for line in unfinished.curve_path.read_text().splitlines() if '"step"' in line]
    *earlier, last = [line for line in steps if '"kind": "step"' in line]
    unfinished.curve_path.write_text("\n".join(earlier) + "\n")
    desk = desk_of(tmp_path, Never)
    address = Address(("sweep", "live"))
    stamp = shown(desk, address)[4]
    with pytest.raises(PreventUpdate):
        ticked(desk, address, stamp, NO_PARTS)
    with unfinished.curve_path.open("a") as file:
        file.write(json.dumps(json.loads(last) | {"loss": 1.2345}) + "\n")
    body, *_, now = ticked(desk, address, stamp, NO_PARTS)
    assert now != stamp
    assert "1.2345" in screen_at(desk, address).csv("loss-curves")
    assert body


def test_visiting_every_view_writes_nothing(root):
    def files():
        return {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    before = files()
    client = make_app(desk_of(root, Never)).server.test_client()
    for path in ("/", "/sweep/made", "/sweep/made/runs", "/forecasts", "/nowhere"):
        assert client.get(path, headers={"Host": "localhost"}).status_code == 200
        shown(desk_of(root, Never), Address.of(path, ""))
    assert files() == before


def test_data_are_served_to_this_machine_alone(desk):
    client = make_app(desk).server.test_client()
    there = "/data/isoflop/sweep/made"
    answer = client.get(there, headers={"Host": "127.0.0.1:8050"})
    assert answer.mimetype == "text/csv"
    assert answer.text.startswith("kind,flops_budget")
    assert client.get(there, headers={"Host": "evil.example"}).status_code == 403
    missing = client.get("/data/none/sweep/made", headers={"Host": "localhost"})
    assert missing.status_code == 404


def test_an_address_that_leads_nowhere_says_what_is_missing(desk):
    assert "no sweep 'gone'" in text_of(desk, Address(("sweep", "gone")))


@pytest.mark.parametrize(
    "address",
    [
        Address(),
        Address(("sweep", "a b/c"), {"q": "d64 & more", "n": "n_params"}),
    ],
)
def test_an_address_comes_back_from_a_browser(address):
    pathname, _, search = str(address).partition("?")
    assert Address.of(pathname, f"?{search}") == address
