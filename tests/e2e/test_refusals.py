"""Unusable input: one clear line, exit status 2, nothing half-written."""

import socket

import pytest

from tests.conftest import ROOT


def expect_refusal(done, *words):
    assert done.returncode == 2, done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("isoflop: ")]
    for word in words:
        assert word in line
    assert "Traceback" not in done.stderr


def test_an_unknown_key_is_named_with_the_nearest(in_process, tmp_path):
    done = in_process("plan", "smoke", "--set", "ladder.width=[16]", home=tmp_path / "new")
    expect_refusal(done, "unknown key ladder.width", "did you mean widths")
    assert not (tmp_path / "new" / "corpora").exists()


def test_an_unknown_spec_names_the_presets(isoflop):
    expect_refusal(isoflop("sweep", "demoo"), "demoo", "chinchilla, demo, gpu-day, gpu-week, ")


@pytest.mark.parametrize(
    ("text", "word"),
    [("", "0 bytes"), ("a few words of text\n" * 3, "Add text"), (None, "eval_tokens")],
    ids=["empty", "small", "too small for validation"],
)
def test_a_corpus_without_enough_text_is_refused(in_process, tmp_path, text, word):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    if text is None:
        for number, page in enumerate(ROOT.glob("docs/**/*.md")):
            (corpus / f"{number}.txt").write_text(page.read_text())
    else:
        (corpus / "a.txt").write_text(text)
    done = in_process("sweep", "smoke", "--corpus", str(corpus), home=tmp_path / "home")
    expect_refusal(done, word)
    assert not list((tmp_path / "home" / "runs").iterdir())


def test_a_corpus_that_is_not_there_is_refused(in_process, tmp_path):
    done = in_process(
        "plan", "smoke", "--corpus", str(tmp_path / "nothing"), home=tmp_path / "home"
    )
    expect_refusal(done, "nothing")


def test_a_budget_no_model_can_meet_is_refused(in_process):
    done = in_process("plan", "smoke", "--set", "grid.budgets=[1e10, 1e20]")
    expect_refusal(done, "1.00e+20", "Add a size near N = ")


def test_a_home_that_cannot_be_written_is_refused(in_process, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    expect_refusal(in_process("plan", "smoke", home=blocked / "home"), "ISOFLOP_HOME")


def test_a_port_in_use_is_refused_before_anything_starts(isoflop, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = isoflop("up", home=tmp_path / "home", ISOFLOP_PREFECT_PORT=str(port))
    expect_refusal(done, str(port), "ISOFLOP_PREFECT_PORT")
    assert not (tmp_path / "home" / "stack.json").exists()


def test_an_unknown_sweep_names_the_known_ones(in_process, tmp_path):
    expect_refusal(in_process("report", "nothing", home=tmp_path), "nothing", "none yet")
