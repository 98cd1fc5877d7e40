"""generate and export-hf on a run trained through the core, in a home of its own."""

import json

import pytest

from tests.trained import trained_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A home with one finished run of two horizons, and the run's id."""
    home = tmp_path_factory.mktemp("trained")
    return home, trained_run(home).id


def test_generate_continues_the_prompt_and_repeats_for_the_same_seed(isoflop, in_process, trained):
    home, run = trained
    first = isoflop("generate", run, "Loss falls", "--tokens", "8", home=home)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Loss falls")
    again = in_process(
        *("generate", run[:6], "Loss falls", "--tokens", "8", "--json", "-"), home=home
    )
    answer = json.loads(again.stdout)
    assert answer["text"] == first.stdout[:-1]
    assert answer["horizon"] == 1280


def test_export_hf_writes_what_transformers_reads(in_process, trained, tmp_path):
    mlflow, transformers = map(pytest.importorskip, ("mlflow", "transformers"))
    home, run = trained
    folder = tmp_path / "exported"
    done = in_process("export-hf", run, str(folder), "--horizon", "640", "--json", "-", home=home)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["horizon"] == 640
    # No server runs; the page of the run is where one will show it.
    assert "/#/experiments/" in answer["mlflow"]
    [model] = (home / "artifacts").glob("**/model_640")
    assert mlflow.transformers.load_model(model)("Loss falls", max_new_tokens=2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("Loss falls", return_tensors="pt")
    assert model(**ids).logits.shape[-1] == 300
    again = in_process("export-hf", run, str(folder), home=home)
    assert again.returncode == 2
    assert "not an empty folder" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "nosuchrun", "x"], "no run 'nosuchrun'"),
        (["generate", "..", "x"], "no run '..'"),
        (["generate", "RUN", "x", "--horizon", "7"], "no horizon of 7 tokens; it has 640, 1280"),
        (["generate", "RUN", "x", "--top-p", "0"], "top_p"),
        (["generate", "RUN", "x", "--tokens", "0"], "--tokens 0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(in_process, trained, arguments, said):
    home, run = trained
    refused = in_process(*[run if a == "RUN" else a for a in arguments], home=home)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""
