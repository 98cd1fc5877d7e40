import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llama_core.corpus.steps.repeats import occurred_before


@given(rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2))))
def test_a_row_occurred_before_if_an_earlier_one_is_the_same(rows):
    keys = np.array(rows, np.uint64).reshape(-1, 2)
    assert occurred_before(keys).tolist() == [row in rows[:i] for i, row in enumerate(rows)]
