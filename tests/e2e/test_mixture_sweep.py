"""A sweep of mixtures ends with the best shares, and its table answers other targets."""

import json
import random

import polars as pl
import pytest
import yaml

SOURCES = ("a", "b", "c")


@pytest.fixture
def spec(tmp_path):
    """Three sources with words of their own, in shares of thirds."""
    for number, name in enumerate(SOURCES):
        draw = random.Random(name)
        letters = "abcdefghijklmnopqrstuvwxyz"[8 * number : 8 * number + 10]
        words = ["".join(draw.choices(letters, k=5)) for _ in range(200)]
        paragraphs = [" ".join(draw.choices(words, k=40)) for _ in range(2_000)]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(paragraphs))
    path = tmp_path / "mixed.yaml"
    sources = [{"kind": "files", "path": str(tmp_path / f"{n}.txt"), "name": n} for n in SOURCES]
    path.write_text(
        yaml.safe_dump(
            {
                "name": "mixed",
                "corpus": {"sources": sources},
                "ladder": {"widths": [16]},
                "grid": {"kind": "tokens", "tokens": [65_536]},
                "eval_tokens": 16_384,
                "mixtures": {
                    "shares": {"kind": "lattice", "parts": 3},
                    "target": {"a": 1},
                    "target_tokens": 131_072,
                },
            }
        )
    )
    return path


@pytest.mark.slow
def test_a_sweep_of_mixtures_finds_the_source_that_its_target_needs(isoflop, home, spec):
    planned = isoflop("plan", str(spec))
    assert planned.returncode == 0, planned.stderr
    assert "10 mixtures of 3 sources" in planned.stdout
    swept = isoflop("sweep", str(spec))
    assert swept.returncode == 0, swept.stderr
    assert "Best shares: a " in swept.stdout
    folder = home / "sweeps" / "mixed"
    table = pl.read_parquet(folder / "observations.parquet")
    assert table.height == 10
    assert set(table.select(f"share_{name}" for name in SOURCES).sum_horizontal()) == {1.0}
    assert "The best shares" in (folder / "report.html").read_text()
    for target in SOURCES:
        own = table.filter(pl.col(f"share_{target}") == 1)[f"loss_{target}"].item()
        assert own == table[f"loss_{target}"].min()
        answered = isoflop("mix", "mixed", "--target", target, "--json", "-")
        assert answered.returncode == 0, answered.stderr
        shares = json.loads(answered.stdout)["best"]["shares"]
        assert max(shares, key=shares.get) == target
    before = {path: path.stat().st_mtime_ns for path in home.glob("runs/*/result.json")}
    again = isoflop("sweep", str(spec), "--json", "-")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["mixtures"]["target"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert {path: path.stat().st_mtime_ns for path in home.glob("runs/*/result.json")} == before
