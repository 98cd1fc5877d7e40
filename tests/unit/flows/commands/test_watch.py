"""`isoflop watch` follows a sweep that is designed in rounds past the end of a round."""

from pathlib import Path

from flows.commands.watch import _goes_on, _latest
from flows.files import write_whole
from flows.plans.rounds import Rounds
from flows.runs.directory import RunDir, RunResult
from flows.settings import Home
from sweeps.load import load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef


def planned(home: Home, widths: str, *, design: str = "design={kind: next}") -> Plan:
    """A plan in the home's folder, its runs ended."""
    made = plan(
        load_spec(
            "smoke", [design, f"ladder.widths={widths}", "grid={kind: tokens, tokens: [1e5]}"]
        ),
        DataRef(digest="x"),
    )
    folder = home.sweeps / "smoke"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "plan.json", made.model_dump_json())
    for run in made.runs:
        directory = RunDir(home.runs / run.id)
        directory.create(run)
        result = RunResult(
            run_id=run.id, status="diverged", reason="", train_s=1, device="", finished_at=1.0
        )
        write_whole(directory.result_path, result.model_dump_json())
    return made


def test_a_design_goes_on_until_its_record_says_that_it_stopped(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    assert not _goes_on(planned(home, "[16]", design="design=null"), home)
    first = planned(home, "[16]")
    record = Rounds(grid_sha256="x", cells=2, flops=1, had=(), rounds=())
    path = home.sweeps / "smoke" / "rounds.json"
    write_whole(path, record.model_dump_json())
    assert _goes_on(first, home)
    assert _latest(first, home) == first
    second = planned(home, "[16, 32]")
    assert _latest(first, home) == second
    write_whole(path, record.model_copy(update={"stopped": "enough"}).model_dump_json())
    assert not _goes_on(second, home)
