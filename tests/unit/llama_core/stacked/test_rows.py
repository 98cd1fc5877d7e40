import pytest
import torch

from llama_core.config import Placement
from llama_core.stacked.rows import most_rows, rows_at_once
from tests.core_tools import recipe, tiny


@pytest.mark.parametrize(
    ("batches", "most", "rows"),
    [
        ([8, 8, 8], 8, 8),
        ([8, 8, 8], 5, 4),  # parts of 5 would be filled up to 10
        ([2, 2, 4, 4, 6, 9, 11, 20], 8, 2),
        ([7, 7], 4, 4),
        ([2, 3, 4, 9], 8, 2),
        ([1, 64], 8, 1),
        ([16], 16, 16),
    ],
)
def test_parts_are_as_long_as_makes_them_cheapest(batches, most, rows):
    assert rows_at_once(batches, most) == rows


@pytest.mark.parametrize(("count", "rows"), [(1, 64), (4, 16), (100, 1)])
def test_on_a_cpu_all_models_together_have_8192_tokens_at_once(count, rows):
    cfg = recipe(10).model_copy(update={"seq_len": 128, "batch_tokens": 128 * 64})
    assert most_rows(tiny(), cfg, Placement(), torch.device("cpu"), count) == rows
