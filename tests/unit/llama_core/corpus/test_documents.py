"""Documents of a dataset on the Hub."""

import sys

import pytest

from llama_core.corpus.config import HubText
from llama_core.corpus.documents import CorpusError, hub_documents
from llama_core.corpus.left_out import LeftOut


def test_a_hub_dataset_is_streamed_row_by_row(tmp_path, monkeypatch):
    # `datasets` reads a local folder of this name instead of the dataset on the Hub.
    folder = tmp_path / "some" / "text"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files: [{split: train, path: en.jsonl}]\n---\n"
    )
    (folder / "en.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    source = HubText(dataset="some/text", subset="en", text_field="body")
    assert [
        doc.text for doc in hub_documents(source, LeftOut(source="hub", text_field="body"))
    ] == ["one", "two"]
    with pytest.raises(CorpusError, match="words"):
        list(hub_documents(source, LeftOut(source="hub", text_field="words")))
    limited = source.model_copy(update={"max_bytes": 3})
    [first] = hub_documents(limited, LeftOut(source="hub", text_field="body"))
    assert first.text == "one"


def test_a_hub_dataset_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(CorpusError, match=r"dataset 'some/text' cannot be read"):
        list(hub_documents(HubText(dataset="some/text"), LeftOut(source="hub")))


def test_a_hub_dataset_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match="pip install datasets"):
        list(hub_documents(HubText(dataset="some/text"), LeftOut(source="hub")))
