import pytest

from llama_core.stacked.rows import rows_at_once


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
