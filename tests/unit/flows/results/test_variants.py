"""What is said of a sweep of variants."""

import polars as pl

from flows.results.variants import scan_sentences


def test_a_rate_at_the_end_of_its_scan_is_doubted():
    rows = [
        ["base", "d32", 1.0, 3.0, 1.1, "the vertex of a parabola through the best three"],
        ["muon", "d32", 16.0, 3.0, 16.0, "at the end of the scan, extended twice"],
    ]
    columns = ["variant", "run", "factor", "loss", "chosen", "how"]
    assert scan_sentences(pl.DataFrame(rows, schema=columns, orient="row")) == [
        "Learning rates scanned, times the recipe's: base x1.1, muon x16.",
        "Doubtful: the rate of muon is at the end of the scan, extended twice.",
    ]
