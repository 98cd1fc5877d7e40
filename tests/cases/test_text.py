"""Anybody's folder of text is read whole, or what is left out is told before training."""

import bz2
import gzip
import json
import lzma
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow
import pytest

from llama_core.corpus.prepared import PreparedCorpus, find_corpus
from tests.cases.conftest import Done, Run

LATIN = "abcdefghijklmnopqrstuvwxyz"
GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
UNICODE = ("--set", "corpus.characters=unicode")
Plan = Callable[..., Done]


def sentences(size: int, letters: str = LATIN, *, seed: int = 0, joint: str = "\n\n") -> str:
    """About `size` characters in sentences of up to 70, so that every paragraph is short."""
    draw, made, length = random.Random(seed), [], 0
    while length < size:
        words = ("".join(draw.choices(letters, k=draw.randint(2, 8))) for _ in range(7))
        made.append(f"{' '.join(words)}.")
        length += len(made[-1]) + len(joint)
    return joint.join(made)


DOCUMENTS = [sentences(4_000, seed=seed) for seed in range(30)]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS)
# What is left of text at the ends of documents and of the blanks around them is below a percent.
WHOLE = 0.99 * sum(map(len, DOCUMENTS))


def folder_of(root: Path, files: dict[str, str | bytes]) -> Path:
    """A folder with these files."""
    folder = root / "text"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def a_file_each(texts: list[str]) -> dict[str, str | bytes]:
    return {f"{number:02d}.txt": text for number, text in enumerate(texts)}


@pytest.fixture
def plan(run: Run) -> Plan:
    """`isoflop prepare` and `isoflop plan` of a small sweep on a corpus, which train nothing."""

    def plan(corpus: Path, *options: str) -> Done:
        gpu = ("--gpu", "h100", "--mfu", "0.4")
        small = ("--set", "eval_tokens=1024", "--set", "corpus.val_fraction=0.2")
        done = run("prepare", "smoke", "--corpus", corpus, *small, *options)
        if done.status:
            return done
        return run("plan", "smoke", "--corpus", corpus, *gpu, *small, *options)

    return plan


def prepared(done: Done, home: Path) -> PreparedCorpus:
    """The corpus that was prepared, every token of it checked against its text."""
    assert done.status == 0, done.stderr
    (request,) = (home / "corpora" / "requests").iterdir()
    corpus = find_corpus(home, request.read_text())
    lengths = corpus.tokenizer().piece_bytes()
    for source in corpus.manifest.sources:
        for split in (source.train, source.val):
            shards = [np.fromfile(corpus.path / s.file, "<u2").astype(int) for s in split.shards]
            ids = np.concatenate(shards)
            assert int(lengths[ids].sum()) == split.bytes
    return corpus


def text_bytes(corpus: PreparedCorpus) -> int:
    return sum(source.train.bytes + source.val.bytes for source in corpus.manifest.sources)


def about_text(done: Done) -> list[str]:
    """The lines of a plan that speak of the text."""
    return [line for line in done.stdout.splitlines() if "source 'files'" in line]


@pytest.mark.parametrize(("greek", "share"), [(9_000, "100 %"), (700, "14")])
def test_letters_that_become_question_marks_are_told_with_what_keeps_them(
    plan: Plan, tmp_path: Path, greek: int, share: str
) -> None:
    latin = 0 if greek == 9_000 else 4_200
    texts = [
        sentences(latin, seed=seed) + "\n\n" + sentences(greek, GREEK, seed=seed)
        for seed in range(20)
    ]
    folder = folder_of(tmp_path, a_file_each(texts))
    done = plan(folder)
    told = done.stdout + done.stderr
    assert re.search(rf"{share}[\d. ]*%?.* of the letters become \?", told)
    assert "--set corpus.characters=unicode keeps them" in told
    kept = plan(folder, *UNICODE)
    assert kept.status == 0
    assert about_text(kept) == []


def test_accents_in_some_english_are_a_remark_and_no_warning(plan: Plan, tmp_path: Path) -> None:
    texts = [f"{text}\n\nA café – naïve, “so to say”." for text in DOCUMENTS]
    [line] = about_text(plan(folder_of(tmp_path, a_file_each(texts))))
    assert "of the letters lose their accent" in line
    assert not line.startswith("warning")


def test_plain_english_gets_no_line_about_its_text(plan: Plan, tmp_path: Path) -> None:
    done = plan(folder_of(tmp_path, a_file_each([t.replace("\n\n", " ") for t in DOCUMENTS])))
    assert done.status == 0
    assert about_text(done) == []


@pytest.mark.parametrize("joint", [" \n \n ", "\n\t\n", "\r\n \r\n", "\n\u00a0\n", " "])
def test_one_long_file_is_cut_whatever_its_blank_lines_hold(
    plan: Plan, tmp_path: Path, joint: str
) -> None:
    text = joint.join(sentences(4_000, seed=seed, joint=joint) for seed in range(40))
    corpus = prepared(plan(folder_of(tmp_path, {"a.txt": text})), tmp_path / "home")
    [source] = corpus.manifest.sources
    assert source.documents_read > 1
    assert text_bytes(corpus) > WHOLE * 0.98


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c4-train.00000-of-01024.json.gz", gzip.compress(LINES.encode())),
        ("a.jsonl.zst", pyarrow.Codec("zstd").compress(LINES.encode(), asbytes=True)),
        ("a.ndjson.bz2", bz2.compress(LINES.encode())),
        ("a.txt.xz", lzma.compress("\n\n".join(DOCUMENTS).encode())),
        ("a.json", json.dumps([{"text": text} for text in DOCUMENTS], indent=1)),
        ("a.json", json.dumps({"text": dict(enumerate(DOCUMENTS))})),
        ("A.TXT", "\n\n".join(DOCUMENTS)),
        ("utf16.txt", "\n\n".join(DOCUMENTS).encode("utf-16")),
        ("marked.jsonl", "\ufeff" + LINES),
        ("marked.txt", "\ufeff" + "\n\n".join(DOCUMENTS)),
    ],
)
def test_usual_forms_of_files_are_read_whole(
    plan: Plan, tmp_path: Path, name: str, content: str | bytes
) -> None:
    done = plan(folder_of(tmp_path, {name: content, "z/README.md": "# A data set\n"}))
    corpus = prepared(done, tmp_path / "home")
    assert text_bytes(corpus) > WHOLE
    assert about_text(done) == []


def test_a_file_given_by_itself_is_read_whatever_its_ending(plan: Plan, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"wiki.train.tokens": "\n \n".join(DOCUMENTS)})
    corpus = prepared(plan(folder / "wiki.train.tokens"), tmp_path / "home")
    assert text_bytes(corpus) > WHOLE


def test_files_that_are_not_read_are_told_by_name_and_count(plan: Plan, tmp_path: Path) -> None:
    odd = {"a.pdf": b"%PDF" * 900, "b/c.docx": b"PK", "info.json": "{}", ".git/x": "y"}
    folder = folder_of(tmp_path, {**a_file_each(DOCUMENTS), **odd})
    (folder / "linked").symlink_to(tmp_path)
    [line] = about_text(plan(folder))
    assert "warning" in line
    assert "4 files are not read (a.pdf, b/c.docx, info.json and 1 more)" in line
    # Told again where the corpus is prepared already, and of a file that came later, too.
    (folder / "later.csv").write_text("a,b")
    [again] = about_text(plan(folder))
    assert "5 files are not read" in again


@pytest.mark.parametrize("odd", ['{"text": null}', '{"id": 7}', '{"text": 7}', "17"])
def test_a_row_without_text_is_skipped_and_counted(plan: Plan, tmp_path: Path, odd: str) -> None:
    lines = LINES.splitlines()
    lines[11] = odd
    done = plan(folder_of(tmp_path, {"part.jsonl": "\n".join(lines)}))
    assert prepared(done, tmp_path / "home").manifest.sources[0].documents_read == 29
    [line] = about_text(done)
    assert "1 of 30 rows have no text in 'text' and are skipped" in line


def test_null_rows_of_parquet_are_counted_and_a_missing_column_is_named(
    plan: Plan, tmp_path: Path
) -> None:
    file = tmp_path / "a.parquet"
    pl.DataFrame({"text": [None, *DOCUMENTS]}).write_parquet(file)
    assert "1 of 31 rows have no text" in about_text(plan(file))[0]
    pl.DataFrame({"body": DOCUMENTS}).write_parquet(file)
    refusal = plan(file)
    assert refusal.status == 2
    assert "'text'" in refusal.stderr
    assert "body" in refusal.stderr


@pytest.mark.parametrize(
    ("letters", "options"),
    [("0123456789 ", ()), ("0123456789", UNICODE), ("a", ()), ("\n", ()), ("?", UNICODE)],
)
def test_a_text_with_too_little_to_learn_is_refused_in_plain_words(
    plan: Plan, tmp_path: Path, letters: str, options: tuple[str, ...]
) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(letters, k=3_000 + seed)) for seed in range(20)]
    done = plan(folder_of(tmp_path, a_file_each(texts)), *options)
    assert done.status == 2
    assert "INTERNAL" not in done.stderr
    assert "Add" in done.stderr


def test_a_vocabulary_too_small_for_han_names_one_that_is_large_enough(
    plan: Plan, tmp_path: Path
) -> None:
    han = "".join(chr(0x4E00 + 7 * number) for number in range(400))
    # A space so rare that the vocabulary has none.
    text = " ".join("".join(random.Random(s).choices(han, k=25_000)) for s in range(10))
    folder = folder_of(tmp_path, {"a.txt": text})
    done = plan(folder, *UNICODE)
    assert done.status == 2
    [larger] = re.findall(r"--set (corpus\.vocab_size=\d+)", done.stderr)
    corpus = prepared(plan(folder, *UNICODE, "--set", larger), tmp_path / "home")
    tokenizer = corpus.tokenizer()
    for phrase in ("a b", " ", han[:9] + "  x ▁ y", "▁"):
        ids = tokenizer.encode(phrase)
        assert tokenizer.decode(ids) == phrase
        assert tokenizer.piece_bytes()[ids].sum() == len(phrase.encode())


@pytest.mark.parametrize("lead", ["- ", "A: ", "def f(x): return ", ""])
def test_documents_of_short_paragraphs_are_all_kept(plan: Plan, tmp_path: Path, lead: str) -> None:
    texts = [re.sub("^(?=.)", lead, text[:-1], flags=re.MULTILINE) for text in DOCUMENTS]
    corpus = prepared(plan(folder_of(tmp_path, a_file_each(texts))), tmp_path / "home")
    [source] = corpus.manifest.sources
    assert source.train.documents + source.val.documents == len(texts)
    assert corpus.manifest.version == 2


def test_short_han_paragraphs_are_kept_beside_long_ones(plan: Plan, tmp_path: Path) -> None:
    han = "".join(chr(0x4E00 + number) for number in range(50))
    short = [sentences(5_000, han, seed=seed).replace(" ", "") for seed in range(10)]
    long = [sentences(5_000, seed=seed).replace("\n\n", " ") for seed in range(10)]
    folder = folder_of(tmp_path, a_file_each(short + long))
    corpus = prepared(plan(folder, *UNICODE), tmp_path / "home")
    [source] = corpus.manifest.sources
    assert source.train.documents + source.val.documents == 20


def test_text_that_repeats_is_told_with_its_share(plan: Plan, tmp_path: Path) -> None:
    done = plan(folder_of(tmp_path, a_file_each(DOCUMENTS + DOCUMENTS)))
    [line] = about_text(done)
    assert line.startswith("warning")
    assert "50 % of the text repeats and is dropped, 30 of 60 documents hold nothing new" in line


@pytest.mark.parametrize(
    ("mark", "options"), [("▁", UNICODE), ("▅", UNICODE), ("<unk>", ()), ("\x07", ())]
)
def test_marks_of_the_tokenizer_in_a_text_cost_their_own_bytes(
    plan: Plan, tmp_path: Path, mark: str, options: tuple[str, ...]
) -> None:
    texts = [text.replace("a", f" {mark} ") for text in DOCUMENTS]
    corpus = prepared(plan(folder_of(tmp_path, a_file_each(texts)), *options), tmp_path / "home")
    tokenizer = corpus.tokenizer()
    ids = tokenizer.encode(f"b{mark}c")
    assert tokenizer.decode(ids) == tokenizer.as_read(f"b{mark}c")


def test_a_plan_prepares_nothing_and_says_what_preparing_takes(run: Run, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a_file_each(DOCUMENTS))
    line = ("smoke", "--corpus", folder, "--set", "eval_tokens=1024")
    ahead = run("plan", *line, "--gpu", "h100")
    assert ahead.status == 0, ahead.stderr
    assert "the corpus is not prepared: planned for the vocabulary asked for, 512" in ahead.stdout
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert f"to prepare files: {size / 1e3:.3g} kB in 30 files; no network" in ahead.stdout
    assert f"isoflop prepare smoke --set eval_tokens=1024 --corpus {folder}" in ahead.stdout
    assert not (tmp_path / "home" / "corpora").exists()
    document = json.loads(run("plan", *line, "--gpu", "h100", "--json", "-").stdout)
    assert {row["id"] for row in document["runs"]} == {None}
    assert document["corpus"]["preparing"][0]["download"] == 0

    done = run("prepare", *line, "--json", "-")
    assert done.status == 0, done.stderr
    after = json.loads(run("plan", *line, "--gpu", "h100", "--json", "-").stdout)
    assert after["corpus"] == json.loads(done.stdout)
    assert None not in {row["id"] for row in after["runs"]}
    # The shapes are those that the vocabulary asked for gave.
    shapes = [[{**row, "id": 0} for row in each["runs"]] for each in (document, after)]
    assert shapes[0] == shapes[1]


def test_a_plan_on_this_machine_leaves_times_open_until_its_corpus_is_prepared(
    run: Run, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, a_file_each(DOCUMENTS))
    done = run("plan", "smoke", "--corpus", folder)
    assert done.status == 0, done.stderr
    assert "times are measured on the prepared corpus; --gpu h100 gives" in done.stdout
    assert json.loads(run("plan", "smoke", "--corpus", folder, "--json", "-").stdout)["usd"] is None


def test_a_published_dataset_is_planned_without_the_network(run: Run) -> None:
    source = "{kind: hub, dataset: HuggingFaceFW/fineweb-edu, subset: sample-10BT, name: web}"
    done = run("plan", "smoke", "--gpu", "h100", "--set", f"corpus.sources=[{source}]")
    assert done.status == 0, done.stderr
    # The published number of tokens is not that of 512 pieces.
    assert "sample-10BT, 45 GB of text; 28.5 GB from the network" in done.stdout
    usual = ("corpus.vocab_size=32000", "grid={kind: tokens, tokens: [1048576]}")
    done = run(
        "plan", "smoke", "--set", f"corpus.sources=[{source}]", "--set", usual[0], "--set", usual[1]
    )
    assert "about 9.5B tokens; 28.5 GB from the network" in done.stdout
    unknown = run("plan", "smoke", "--set", "corpus.sources=[{kind: hub, dataset: a/b}]")
    assert "dataset a/b; from the network, of a size not known here" in unknown.stdout


def test_a_sweep_for_gpus_is_refused_before_its_text_is_fetched_where_there_is_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = run("sweep", "gpu-day")
    assert done.status == 2
    assert "placement.device=cuda, and this machine has no GPU" in done.stderr
    assert "prefect deployment run sweep/chinchilla -p spec=gpu-day" in done.stderr
