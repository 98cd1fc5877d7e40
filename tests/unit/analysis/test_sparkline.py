from base64 import b64decode

import pytest

from analysis.sparkline import sparkline


def image_of(values):
    return b64decode(sparkline(values).partition(",")[2]).decode()


def test_a_falling_loss_falls_on_the_screen_and_its_end_is_marked():
    image = image_of([5.0, 4.0, 3.0])
    points = image.split('points="')[1].split('"')[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    # A screen counts downwards.
    assert heights == sorted(heights)
    x, y = points[-1].split(",")
    assert f'cx="{x}" cy="{y}"' in image


def test_one_value_and_equal_values_are_drawn_and_none_are_refused():
    assert "polyline" in image_of([3.0])
    assert "nan" not in image_of([3.0, 3.0])
    with pytest.raises(ValueError, match="no values"):
        sparkline([])
