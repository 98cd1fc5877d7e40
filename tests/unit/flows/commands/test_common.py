"""Options and the home are the same in every command, and refusals are one line that names them."""

import logging
import time

import pytest

from analysis.law import LossLaw
from flows.cli import app
from flows.commands.common import progress_shown, shown_from_log
from tests.simulated import isoflops, table

LEVELS = [
    ("fit", "table.csv"),
    ("fit-lr", "table.csv"),
    ("compare", "one", "two"),
    ("frontier", "--loss", "2.1"),
    ("retrodict",),
]


@pytest.fixture
def isoflop(capsys, monkeypatch, tmp_path):
    """A command in this process: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOFLOP_HOME", str(tmp_path / "home"))
    for port in ("PREFECT", "MLFLOW"):
        monkeypatch.setenv(f"ISOFLOP_{port}_PORT", "1")

    def run(*arguments):
        status = 0
        try:
            app(arguments, result_action="return_value")
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def swept(monkeypatch, tmp_path):
    """A sweep `mine` in a home that the environment names by ~."""
    folder = tmp_path / "x" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    law = LossLaw(
        name="mine", form="chinchilla", E=1.1, A=30, B=80, alpha=0.33, beta=0.34, source="a test",
        n_counts="n_params", c_counts="train_flops", loss_unit="nats_per_token",
    )  # fmt: skip
    law.save(folder / "law.json")
    table(*isoflops(), noise=0.002).write_parquet(folder / "observations.parquet")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ISOFLOP_HOME", "~/x")


@pytest.mark.parametrize(
    "arguments",
    [
        ("frontier", "--law", "mine", "--flops", "1e12"),
        ("retrodict", "--experiment", "mine"),
        ("fit", "mine", "--bootstrap", "0"),
    ],
)
def test_a_home_named_by_a_tilde_is_read_where_a_sweep_writes_it(isoflop, swept, arguments):
    status, _, errors = isoflop(*arguments)
    assert status == 0, errors


@pytest.mark.parametrize("command", LEVELS)
def test_a_level_out_of_range_is_refused_in_the_same_words(isoflop, command):
    status, out, errors = isoflop(*command, "--level", "1.5")
    refusal = "isoflop: --level 1.5 must lie between 0 and 1, for example 0.9.\n"
    assert (status, out, errors) == (2, "", refusal)


@pytest.mark.parametrize("option", ["--json", "--report"])
@pytest.mark.parametrize("command", LEVELS)
def test_a_folder_that_is_missing_is_refused_by_the_name_of_its_option(
    isoflop, command, option, tmp_path
):
    status, _, errors = isoflop(*command, option, "none/answer")
    assert status == 2
    assert errors == f"isoflop: {option} none/answer: there is no folder {tmp_path / 'none'}.\n"


def test_a_command_that_only_reads_makes_no_home(isoflop, tmp_path):
    status, _, errors = isoflop("frontier", "--flops", "1e21")
    assert status == 0, errors
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", [("runs",), ("frontier", "--law", "mine", "--loss", "2")])
def test_a_setting_out_of_range_is_refused_by_its_name(isoflop, monkeypatch, command):
    monkeypatch.setenv("ISOFLOP_PREFECT_PORT", "70000")
    status, _, errors = isoflop(*command)
    assert status == 2
    assert errors.startswith("isoflop: ISOFLOP_PREFECT_PORT=70000: ")
    assert errors.count("\n") == 1


def test_a_home_without_sweeps_lists_no_empty_table(isoflop):
    assert isoflop("runs") == (0, "no sweep was started in this home yet\n", "")


def test_a_number_of_tokens_or_parameters_may_have_its_suffix(isoflop):
    answers = [
        isoflop("frontier", "--like", like, "--inference-tokens", tokens)
        for like, tokens in (("7e9,1e12", "2e12"), ("7B,1T", "2T"))
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 0
    status, _, errors = isoflop("frontier", "--like", "7Q,1T")
    assert (status, errors) == (2, "isoflop: --like '7Q' is not a number; write 2e12 or 2T.\n")


def _log_a_step(after_s: float) -> None:
    with shown_from_log("somewhere.long", after_s=after_s):
        time.sleep(0.05)
        logging.getLogger("somewhere.long").info("resampling 20,000 rows")
        time.sleep(0.3)  # two refreshes of the spinner


def test_a_terminal_shows_what_the_log_says_once_it_takes_long(capfd, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _log_a_step(after_s=0.0)
    assert "resampling 20,000 rows" in capfd.readouterr().err
    _log_a_step(after_s=60.0)
    assert "resampling" not in capfd.readouterr().err
    assert logging.getLogger("somewhere.long").handlers == []


def test_standard_error_that_is_no_terminal_shows_no_step(capfd) -> None:
    _log_a_step(after_s=0.0)
    assert capfd.readouterr() == ("", "")


def test_a_log_names_each_step_that_takes_long_once_and_then_says_how_far_it_is(capfd) -> None:
    with progress_shown("looking for the corpus", after_s=0.4, every_s=60.0) as report:
        report("reading notes: 10%")
        time.sleep(0.8)
        report("reading notes: 90%")
        time.sleep(0.4)
        report("counting")
    assert capfd.readouterr() == ("", "reading notes: 10%\n")
    with progress_shown("fitting", after_s=0.0, every_s=0.3) as report:
        time.sleep(0.3)
        report("fitting: 80%")
        time.sleep(0.8)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "fitting"
    assert set(lines[1:]) == {"fitting: 80%"}
