"""What preparing takes is said from what is known, and what is not known is said to be unknown."""

from types import SimpleNamespace

import pytest

from flows.plans import preparing as module
from flows.plans.preparing import known_tokens, preparing, size
from llama_core.config import CorpusConfig, EnvironmentText, FileText, HubText

SAMPLE = {"dataset": "HuggingFaceFW/fineweb-edu", "subset": "sample-10BT"}


def test_packed_files_hold_more_text_than_they_have_bytes(tmp_path):
    for name, at_least in (("a.txt", False), ("a.jsonl.gz", True)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"x" * 6_400_000)
        [work] = preparing(CorpusConfig(sources=(FileText(path=str(folder)),)))
        assert (work.read, work.network) == ("6.4 MB in 1 file", "no network")
        # 3.2 MB of text a second.
        assert work.seconds == pytest.approx(2.0)
        assert work.at_least is at_least


def test_a_published_dataset_has_its_publishers_sizes_and_another_has_none():
    known, unknown = HubText(**SAMPLE, name="a"), HubText(dataset="x/y", name="b")
    first, second = preparing(CorpusConfig(sources=(known, unknown), val_fraction=0.1))
    assert (first.download, first.tokens) == (28.5e9, 9e9)
    assert (second.seconds, second.tokens) == (None, None)
    assert second.network == "from the network, of a size not known here"


def test_training_tokens_are_known_only_where_those_of_every_source_are():
    sample = HubText(**SAMPLE, name="a")
    assert known_tokens(CorpusConfig(sources=(sample,), val_fraction=0.1)) == {"a": 9_000_000_000}
    assert known_tokens(CorpusConfig(sources=(sample, EnvironmentText()))) is None


def test_a_source_of_another_kind_takes_an_unknown_time():
    work = module._work(SimpleNamespace(kind="tokens", name="mine"), 0.1)
    assert (work.name, work.read, work.seconds) == ("mine", "a source of kind tokens", None)


@pytest.mark.parametrize(
    ("count", "words"),
    [(999, "0.999 kB"), (1e6, "1 MB"), (28.5e9, "28.5 GB"), (2.5e12, "2.5 TB")],
)
def test_bytes_have_a_unit(count, words):
    assert size(count) == words
