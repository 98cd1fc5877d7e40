"""Sources of a corpus: kinds of text on this machine, LLaMA's seven, and what is refused."""

import json
import re
import sys

import pytest

from llama_core.corpus.installed import installed_files
from llama_core.corpus.kinds import HOLDS, LEAST_BYTES
from llama_core.corpus.prepared import find_corpus
from tests.cases.conftest import Run
from tests.cases.test_text import a_file_each, folder_of, sentences

SMALL = ("--set", "eval_tokens=1024", "--set", "corpus.val_fraction=0.2")


def sources(*given: dict[str, object]) -> tuple[str, str]:
    return ("--set", f"corpus.sources={json.dumps(given)}")


def two_folders(root, *weights: float, **sizes: int) -> tuple[str, ...]:
    """Two sources of files, with these weights and kilobytes."""
    given = []
    for number, (name, size) in enumerate(sizes.items()):
        texts = [sentences(1_000, seed=1_000 * number + i) for i in range(size)]
        folder = folder_of(root / name, a_file_each(texts))
        given.append({"kind": "files", "path": str(folder), "name": name})
    for source, weight in zip(given, weights, strict=True):
        source["weight"] = weight
    return sources(*given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            [{"kind": "environment", "weight": 0}, {"kind": "environment", "text": "python"}],
            "0 is no share: the source would never be read. Remove the source, or give it a weight",
        ),
        (
            [{"kind": "environment", "text": "python"}] * 2,
            "sources are named ['python', 'python']: give each a different name",
        ),
        (
            [{"kind": "environment", "text": "poems"}],
            "'poems' should be 'docstrings', 'python', 'headers', 'manuals', 'readmes', 'licences'",
        ),
    ],
)
def test_a_source_that_cannot_be_read_as_asked_is_refused(run: Run, given, told):
    done = run("plan", "smoke", "--gpu", "h100", *sources(*given))
    assert done.status != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_that_do_not_sum_to_one_are_divided_by_their_sum_as_told(run: Run, tmp_path):
    given = two_folders(tmp_path, 3, 1, prose=40, code=40)
    before = run("plan", "smoke", "--gpu", "h100", *SMALL, *given)
    assert "to prepare prose, 0.75 of the training tokens" in before.stdout
    done = run("prepare", "smoke", *SMALL, *given)
    told = "shares of the training tokens, the weights divided by their sum of 4"
    assert f"{told}: prose 75.0%, code 25.0%." in " ".join(done.stdout.split())
    after = run("plan", "smoke", "--gpu", "h100", *SMALL, *given, "--json", "-")
    assert any(told in note for note in json.loads(after.stdout)["corpus"]["notes"])


def test_a_source_whose_share_is_less_than_a_row_is_refused_before_training(run: Run, tmp_path):
    given = two_folders(tmp_path, 1, 1e-4, prose=40, code=40)
    done = run("prepare", "smoke", *SMALL, *given)
    assert done.status != 0
    assert "source 'code' has weight 0.0001 of 1.0001, less than half a row in 1,024" in done.stderr


def test_a_source_too_small_for_its_share_is_named_with_its_epochs(run: Run, tmp_path):
    given = two_folders(tmp_path, 0.5, 0.5, large=400, small=20)
    prepared = run("prepare", "smoke", *SMALL, *given)
    assert prepared.status == 0, prepared.stderr
    done = run("plan", "smoke", *SMALL, *given, "--gpu", "h100")
    [epochs] = re.findall(
        r"reads [\d,]+ tokens, ([\d.]+) times its source 'small'", " ".join(done.stdout.split())
    )
    assert float(epochs) > 4
    assert "times its source 'large'" not in done.stdout


def test_a_source_without_validation_text_is_refused_with_its_name(run: Run, tmp_path):
    text = sentences(4_000)
    repeated = folder_of(tmp_path / "b", {"a.txt": f"{text}\n\n{text}", "b.txt": text + " more"})
    other = folder_of(tmp_path / "a", a_file_each([sentences(4_000, seed=9 + i) for i in range(9)]))
    given = sources(
        {"kind": "files", "name": "good", "path": str(other)},
        {"kind": "files", "name": "same", "path": str(repeated)},
    )
    done = run("prepare", "smoke", *SMALL, *given)
    assert done.status != 0
    assert "every validation document of source 'same' occurs in training too" in done.stderr


def test_llamas_seven_sources_are_planned_with_its_shares_without_a_network(run: Run):
    done = run("plan", "llama-mixture", "--gpu", "h100", "--devices", "8", "--json", "-")
    document = json.loads(done.stdout)
    given = document["spec"]["corpus"]["sources"]
    assert {source["name"]: source["weight"] for source in given} == {
        "commoncrawl": 67.0,
        "c4": 15.0,
        "github": 4.5,
        "wikipedia": 4.5,
        "books": 4.5,
        "arxiv": 2.5,
        "stackexchange": 2.0,
    }
    # Read as often in 10B tokens as LLaMA reads them in 1.4T (Touvron et al. 2023, table 1); the
    # files have 8 % more text than is read, of which 0.5 % is for validation.
    epochs = {
        work["name"]: work["share"] * 10e9 / (work["tokens"] / 1.08 / 0.995)
        for work in document["corpus"]["preparing"]
    }
    published = [1.10, 1.06, 0.64, 2.45, 2.23, 1.06, 1.03]
    assert list(epochs.values()) == pytest.approx(published, rel=0.005)


@pytest.mark.slow
@pytest.mark.long
def test_this_machine_has_enough_text_of_each_kind_that_comes_with_the_packages(run: Run, tmp_path):
    found = {kind: sum(file.size for file in installed_files(kind)) for kind in HOLDS}
    kinds = [kind for kind, size in found.items() if size >= LEAST_BYTES]
    # Manual pages and licences are the system's; a container may have few.
    assert {"python", "headers", "readmes", "data"} <= {*kinds}
    given = sources(*({"kind": "environment", "text": kind} for kind in kinds))
    done = run("prepare", "smoke", *given)
    assert done.status == 0, done.stderr
    [request] = (tmp_path / "home" / "corpora" / "requests").iterdir()
    corpus = find_corpus(tmp_path / "home", request.read_text())
    read = [
        f"{source.name:11} read {source.bytes_read / 1e6:5.1f} MB, training "
        f"{source.train.bytes / 1e6:5.1f} MB, validation {source.val.bytes / 1e6:.2f} MB in "
        f"{source.val.documents} documents"
        for source in corpus.manifest.sources
    ]
    sys.stdout.write("\n".join(["", *read, ""]))
    assert all(source.bytes_read >= LEAST_BYTES for source in corpus.manifest.sources)
    assert all(source.val.documents >= 10 for source in corpus.manifest.sources)
