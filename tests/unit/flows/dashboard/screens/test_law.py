"""The first view of a sweep: its answer as far as it is known."""

from flows.dashboard.address import Address
from flows.dashboard.screens.at import screen_at
from flows.runs.directory import RunDir
from tests.dashboards import Never, desk_of, text_of
from tests.simulated_home import simulated_sweep


def test_a_sweeps_answer_stands_above_its_figures(desk):
    text = text_of(desk, Address(("sweep", "made")))
    assert text.index("IsoFLOP: the best size grows as N*") < text.index("IsoFLOP valleys")
    for heading in ("The parametric law and its residuals", "Every loss curve", "Python"):
        assert heading in text


def test_before_its_fit_is_there_a_sweep_shows_valleys_and_says_so(root):
    desk = desk_of(root, Never)
    text = text_of(desk, Address(("sweep", "made")))
    assert "The answer is being computed" in text
    assert "IsoFLOP valleys" in text
    assert "Parametric law:" not in text


def test_every_view_of_a_sweep_without_a_step_opens(tmp_path):
    planned = simulated_sweep(tmp_path, "planned", finished=0)
    desk = desk_of(tmp_path)
    for view in ((), ("frontier",), ("next",)):
        text = text_of(desk, Address(("sweep", "planned", *view)))
        assert "no row is left to fit" in text
        assert "This view failed" not in text
    RunDir(tmp_path / "runs" / planned.runs[0].id).create(planned.runs[0])
    run = text_of(desk, Address(("run", planned.runs[0].id)))
    assert "How it was made" in run
    assert "This view failed" not in run


def test_a_table_too_small_for_a_law_says_why(desk):
    text = text_of(desk, Address(("sweep", "begun")))
    assert "There is no law yet: " in text
    assert "1 of 8 runs finished" in text


def test_another_count_of_N_and_C_moves_the_exponent_as_the_table_of_counts_has_it(desk):
    page = screen_at(desk, Address(("sweep", "made"))).page()
    [counts] = [part for part in page.parts if getattr(part, "header", ("",))[-1] == "D*/N*"
                and part.header[0] == "N"]  # fmt: skip
    by_count = {row[:2]: row[2] for row in counts.rows}
    query = {"n": "n_params_total", "c": "flops_6nd"}
    text = text_of(desk, Address(("sweep", "made"), query))
    assert f"N* ~ C^{float(by_count['every parameter', '6ND']):.2f}" in text
    assert "N counts every parameter." in text
