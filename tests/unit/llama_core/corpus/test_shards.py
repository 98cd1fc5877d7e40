import numpy as np

from llama_core.corpus.shards import ShardWriter, SplitEntry, open_shards


def test_a_documents_end_is_kept_when_tokens_fill_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("llama_core.corpus.shards.SHARD_TOKENS", 10)
    writer = ShardWriter(tmp_path, "s", 2)
    documents = [np.arange(count) + 100 * count for count in (4, 6, 1, 12, 3)]
    for document in documents:
        writer.append(document)
    shards = writer.close()
    assert [shard.tokens for shard in shards] == [10, 1, 12, 3]
    split = SplitEntry(documents=5, bytes=1, tokens=26, shards=shards)
    read = np.concatenate(open_shards(tmp_path, split, 2))
    assert read.tolist() == np.concatenate(documents).tolist()
