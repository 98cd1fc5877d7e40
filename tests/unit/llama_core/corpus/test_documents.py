"""Documents of a dataset on the Hub."""

import json
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
    rows = [{"body": "one"}, {"body": None}, {"body": "two"}, {"body": "more"}]
    (folder / "en.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    source = HubText(dataset="some/text", subset="en", text_field="body")
    counts = LeftOut(source="hub", text_field="body")
    assert list(hub_documents(source, counts)) == ["one", "two", "more"]
    assert (counts.rows, counts.rows_without_text) == (4, 1)
    with pytest.raises(CorpusError, match="words"):
        list(hub_documents(source, LeftOut(source="hub", text_field="words")))
    limited = source.model_copy(update={"max_bytes": 4})
    counts = LeftOut(source="hub", text_field="body")
    assert list(hub_documents(limited, counts)) == ["one", "two"]
    # A row without a text is counted also where reading ends before the dataset does.
    assert (counts.rows, counts.rows_without_text) == (3, 1)


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
