import numpy as np

from llama_core.corpus.cleaning import passages
from llama_core.corpus.steps import leaks
from llama_core.corpus.steps.leaks import SampleHeldOut, held_out_file, merge_held_out
from llama_core.corpus.steps.texts import Segment, Texts
from tests.core_tools import story


def test_hashes_of_validation_are_sorted_in_ranges_as_in_one(tmp_path, monkeypatch):
    texts = [story(seed) for seed in range(6)]
    for number in range(3):
        Texts(tmp_path / f"{number}.texts").write(texts[2 * number : 2 * number + 2])
        segment = Segment(file=f"{number}.texts", start=0, stop=2)
        SampleHeldOut(work=tmp_path, number=number, segment=segment).run()
    monkeypatch.setattr(leaks, "_RANGE_HASHES", 100)
    merge_held_out(tmp_path, 0, range(3))
    merged = np.fromfile(tmp_path / held_out_file(0), "<u8")
    assert len(merged) > 500
    assert (merged == np.unique(np.concatenate([passages(text) for text in texts]))).all()
