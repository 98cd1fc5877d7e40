"""A capped sweep and commands that show its runs."""

import json

import polars as pl
import pytest

from flows.plans.stored import read_plans
from flows.settings import Home

pytestmark = pytest.mark.slow
SEVENTH = ("--set", "seeds=[7]")
HOTTER = ("--set", "name=hotter", "--set", "recipe.coef=0.5", "--set", "recipe.cap=0.04")


def test_a_sweep_stops_before_its_cap_and_a_larger_cap_resumes(isoflop, in_process, home):
    name = ("--set", "name=capped")
    prepared = isoflop("prepare", "smoke")
    assert prepared.returncode == 0, prepared.stderr
    planned = in_process("plan", "smoke", *SEVENTH, *name, "--json", "-", "--max-flops", "1.5e11")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    costs = sorted(run["flops_spent"] for run in plan["runs"])
    assert "leaves out 1 of 4 runs" in plan["left_out_by_cap"]
    assert plan["elapsed_range_s"][0] <= plan["elapsed_s"] <= plan["elapsed_range_s"][1]
    assert all(run["memory_gib"] > 0 for run in plan["runs"])

    first = isoflop("sweep", "smoke", *SEVENTH, *name, "--max-flops", "1.5e11")
    assert first.returncode == 1, first.stderr
    assert "the cap of 1.50e+11 FLOPs leaves out 1 of 4 runs" in first.stderr
    trained = [path for path in home.glob("runs/*/result.json")]
    [mine] = [plan for plan in read_plans(Home(home)) if plan.spec.name == "capped"]
    ids = {run.id: run.flops_spent for run in mine.runs}
    spent = [ids[path.parent.name] for path in trained if path.parent.name in ids]
    assert sorted(spent) == costs[:3]
    assert (home / "sweeps" / "capped" / "report.html").exists()

    again = isoflop("sweep", "smoke", *SEVENTH, *name, "--max-flops", "1.5e11")
    assert again.returncode == 1
    assert "leaves out 1 of 4 runs" in again.stderr

    larger = isoflop("sweep", "smoke", *SEVENTH, *name, "--max-flops", f"{sum(costs)}")
    assert larger.returncode == 0, larger.stderr
    left = json.loads(in_process("plan", "smoke", *SEVENTH, *name, "--json", "-").stdout)
    assert left["flops_left"] == left["device_s"] == left["elapsed_s"] == 0

    other = isoflop("sweep", "smoke", *SEVENTH, *HOTTER)
    assert other.returncode == 0, other.stderr


def test_show_prints_attempts_losses_and_provenance(in_process, home):
    shown = json.loads(in_process("show", "capped/d48", "--json", "-").stdout)
    assert shown["state"] == "finished"
    assert [attempt["how"] for attempt in shown["attempts"]] == ["finished"]
    assert shown["attempts"][0]["steps_to"] == shown["steps"]
    assert shown["provenance"]["spec"] == shown["spec"]
    assert len(shown["provenance"]["tokenizer_sha256"]) == 64
    assert all(row["val_loss"] > 1 for row in shown["losses"])
    said = in_process("show", shown["id"][:8]).stdout
    assert shown["id"] in said
    assert "generate" in said
    unknown = in_process("show", "nobody")
    assert unknown.returncode == 2
    assert "no run 'nobody'" in unknown.stderr


def test_compare_names_the_changes_and_their_effect(in_process, home, tmp_path):
    page = tmp_path / "compare.html"
    done = in_process("compare", "capped", "hotter", "--json", "-", "--report", str(page))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    changed = {row["path"]: (row["first"], row["second"]) for row in found["spec"]}
    assert changed.pop("recipe.coef") == (0.256, 0.5)
    assert changed.pop("recipe.cap") == (0.016, 0.04)
    assert set(changed) == {"cap.kind", "cap.flops"}
    assert len(found["matched"]["pairs"]) == 10
    assert {c["name"] for c in found["contrasts"]} >= {"exponent_N", "loss"}
    assert all(row["difference"] > -1 for row in found["matched"]["pairs"])
    assert "What it did to the law" in page.read_text()
    assert "recipe.coef" in in_process("compare", "capped", "hotter").stdout


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_exported_observations_give_the_same_law(in_process, home, tmp_path, kind):
    done = in_process("export", "capped", "--format", kind, "--to", str(tmp_path), "--json", "-")
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert [path.rpartition("/")[2] for path in files] == [f"observations.{kind}", f"curves.{kind}"]
    fits = [
        json.loads(in_process("fit", source, "--bootstrap", "0", "--json", "-").stdout)["groups"]
        for source in ("capped", files[0])
    ]
    assert fits[0][0]["law"] == fits[1][0]["law"]


def test_curves_hold_every_step_of_every_run(in_process, home, tmp_path):
    in_process("export", "capped", "--to", str(tmp_path))
    curves = pl.read_parquet(tmp_path / "curves.parquet")
    plan = json.loads(
        in_process("plan", "smoke", *SEVENTH, "--set", "name=capped", "--json", "-").stdout
    )
    assert curves.height == sum(run["steps"] for run in plan["runs"])
