"""The picture of a sweep's valleys."""

from base64 import b64decode

import polars as pl

from analysis.sweep.valleys import valleys_image


def test_every_loss_is_a_point_and_every_budget_a_line():
    frame = pl.DataFrame(
        {
            "flops_budget": [1e10, 1e10, 1e10, 4e10, 4e10],
            "n_params": [1e4, 2e4, 4e4, 2e4, 4e4],
            "val_loss": [4.0, 3.8, 3.9, 3.5, None],
            "excluded_reason": [None, None, None, None, "diverged"],
        }
    )
    image = valleys_image(frame)
    head, _, data = image.partition(",")
    assert head == "data:image/svg+xml;base64"
    drawn = b64decode(data).decode()
    assert drawn.count("<circle") == 4
    assert drawn.count("<polyline") == 2
    assert "C = 4.00e+10" in drawn
    assert valleys_image(frame.filter(pl.col("val_loss").is_null())) is None
    # A second seed of each is no point of its own.
    again = frame.with_columns(pl.col("val_loss") + 0.1)
    both = b64decode(valleys_image(pl.concat([frame, again])).partition(",")[2]).decode()
    assert both.count("<circle") == 4
    assert "4.050" in both
