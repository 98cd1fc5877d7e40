"""A corpus arrives complete and verified, or not at all."""

import json
import shutil

import pytest

from flows.settings import Settings, open_home
from flows.store.contract import StoreError
from flows.store.folder import Folder
from flows.store.run_store import RunStore
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.preparation import prepare
from llama_core.corpus.prepared import find_corpus
from sweeps.load import load_spec
from tests.core_tools import story


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus of a few sentences in a home of its own."""
    root = tmp_path_factory.mktemp("corpus-home")
    text = root / "text"
    text.mkdir()
    for number in range(60):
        (text / f"{number}.txt").write_text(story(number))
    spec = load_spec("smoke", [])
    source = {"kind": "files", "name": "words", "path": str(text)}
    config = spec.corpus.model_validate({"vocab_size": 300, "sources": [source]})
    home = open_home(Settings(home=root))
    return home, prepare(config, home.root).digest


def test_a_corpus_arrives_complete_and_verified(store, corpus, tmp_path):
    home, digest = corpus
    RunStore(store).push_corpus(home, digest)
    other = open_home(Settings(home=tmp_path / "other"))
    RunStore(store).pull_corpus(other, digest)
    assert (
        find_corpus(other.root, digest).train_tokens == find_corpus(home.root, digest).train_tokens
    )
    find_corpus(other.root, digest).check()


def test_a_corpus_that_differs_from_its_manifest_never_arrives(memory, corpus, tmp_path):
    home, digest = corpus
    RunStore(memory).push_corpus(home, digest)
    told = json.loads(memory.get(f"corpora/{digest}/index-000001.json"))
    told["files"]["words-train-00000.bin"] = told["files"]["words-val-00000.bin"]
    memory.put(f"corpora/{digest}/index-000001.json", json.dumps(told).encode())
    other = open_home(Settings(home=tmp_path / "other"))
    with pytest.raises(StoreError, match="was changed"):
        RunStore(memory).pull_corpus(other, digest)
    assert not (other.root / "corpora" / digest[:16]).exists()


def test_a_corpus_that_is_damaged_here_is_not_pushed(memory, corpus, tmp_path):
    sound, digest = corpus
    home = open_home(Settings(home=shutil.copytree(sound.root, tmp_path / "home")))
    shard = next(find_corpus(home.root, digest).path.glob("words-train-*.bin"))
    shard.write_bytes(shard.read_bytes()[:-2] + b"\xff\x7f")
    with pytest.raises(CorpusError):
        RunStore(memory).push_corpus(home, digest)
    assert Folder(memory, f"corpora/{digest}").indexes() == []
