"""What preparing takes is said from what is known, and what is not known is said to be unknown."""

import pytest

from flows.plans.preparing import known_tokens, preparing, size
from llama_core.corpus.config import CorpusConfig, EnvironmentText, FileText, HubText, TokenFiles

SAMPLE = {"dataset": "HuggingFaceFW/fineweb-edu", "subset": "sample-10BT"}


def test_packed_files_hold_more_text_than_they_have_bytes(tmp_path):
    for name, at_least in (("a.txt", False), ("a.jsonl.gz", True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"x" * 10_000_000)
        [work] = preparing(CorpusConfig(sources=(FileText(path=str(folder)),)))
        assert (work.read, work.network) == ("10 MB in 1 file", "no network")
        # 5 MB of text a second.
        assert work.seconds == pytest.approx(2.0)
        assert work.at_least is at_least


def test_a_published_dataset_has_its_publishers_sizes_and_another_has_none():
    known, unknown = HubText(**SAMPLE, name="a"), HubText(dataset="x/y", name="b")
    config = CorpusConfig(sources=(known, unknown), val_fraction=0.1, vocab_size=32_000)
    first, second = preparing(config)
    assert (first.download, first.tokens) == (28.5e9, 9e9)
    assert (second.seconds, second.tokens) == (None, None)
    assert second.network == "from the network, of a size not known here"


def test_training_tokens_are_known_only_where_those_of_every_source_are():
    sample = HubText(**SAMPLE, name="a")
    config = CorpusConfig(sources=(sample,), val_fraction=0.1, vocab_size=32_000)
    assert known_tokens(config) == {"a": 9_000_000_000}
    mixed = (sample, EnvironmentText())
    assert known_tokens(config.model_copy(update={"sources": mixed})) is None


def test_a_publishers_sizes_are_of_the_whole_dataset_and_its_tokens_of_usual_vocabularies():
    part = HubText(**SAMPLE, split="train[:1%]")
    [work] = preparing(CorpusConfig(sources=(part,), vocab_size=32_000))
    assert (work.seconds, work.download, work.tokens) == (None, None, None)
    # 512 pieces are a third as long as 32,000 are, so they are three times as many.
    [work] = preparing(CorpusConfig(sources=(HubText(**SAMPLE),), vocab_size=512))
    assert (work.download, work.tokens) == (28.5e9, None)
    assert known_tokens(CorpusConfig(sources=(HubText(**SAMPLE),), vocab_size=512)) is None


def test_token_files_have_their_size_and_an_unknown_time(tmp_path):
    (tmp_path / "train.bin").write_bytes(b"\0" * 2_000_000)
    (tmp_path / "val.bin").write_bytes(b"\0" * 500_000)
    [work] = preparing(CorpusConfig(sources=(TokenFiles(path=str(tmp_path)),)))
    assert (work.read, work.seconds) == ("2.5 MB of token ids in 2 files", None)
    assert work.network == "no network"


@pytest.mark.parametrize(
    ("count", "words"),
    [(999, "0.999 kB"), (1e6, "1 MB"), (28.5e9, "28.5 GB"), (2.5e12, "2.5 TB")],
)
def test_bytes_have_a_unit(count, words):
    assert size(count) == words
