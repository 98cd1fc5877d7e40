import polars as pl
import pytest

from analysis import published
from flows.evaluation.benchmarks import BENCHMARKS, FAMILIES, chosen_benchmarks


def names(benchmarks):
    return {benchmark.name for benchmark in benchmarks}


def test_every_benchmark_of_the_paper_has_its_metric_and_shots():
    printed = published.results().filter(pl.col("model") == "LLaMA-7B")
    for benchmark in BENCHMARKS:
        rows = printed.filter(
            pl.col("benchmark") == (benchmark.published or benchmark.name),
            pl.col("metric") == benchmark.metric,
            pl.col("shots").is_in([str(benchmark.shots), "few"]),
        )
        assert rows.height == 1, benchmark.name
        assert rows["family"][0].replace("_", "-") == benchmark.family
    missing = set(printed["benchmark"]) - {b.published or b.name for b in BENCHMARKS}
    # The four parts of MMLU are listed under its average.
    assert all(name.startswith("MMLU ") for name in missing)


def test_no_name_means_all_benchmarks_that_run_no_code():
    assert names(chosen_benchmarks([], run_code=False)) == {
        b.name for b in BENCHMARKS if b.family != "code"
    }
    assert names(chosen_benchmarks([], run_code=True)) == names(BENCHMARKS)


def test_families_and_benchmarks_mix_without_repeats():
    chosen = chosen_benchmarks(["reading", "race-high", "closed_book_qa"], run_code=False)
    assert [b.name for b in chosen] == ["NaturalQuestions", "TriviaQA", "RACE-middle", "RACE-high"]
    assert {b.family for b in BENCHMARKS} == set(FAMILIES)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Helaswag", "Did you mean HellaSwag"),
        ("xyz", "Families: common-sense"),
        ("code", "--run-code"),
    ],
)
def test_unknown_and_unsafe_benchmarks_are_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        chosen_benchmarks([asked], run_code=False)
