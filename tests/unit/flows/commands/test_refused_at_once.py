"""What cannot be done is refused before the libraries that would do it are imported."""

import os
import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "scipy", "prefect", "mlflow", "optuna", "plotly", "polars"}
REFUSED = (
    "fit nosuch.csv",
    "fit-lr nosuch.csv",
    "mix nosuch.csv",
    "next nosuch --flops 1e20",
    "compare nosuch other",
    "forecast nosuch.csv --at 7B,2T",
    "forecast table.csv --at 7B,2T --register taken",
    "forecast table.csv --register new",
    "forecast --check nosuch",
    "retrodict --experiment nosuch",
    "plan nosuch",
    "prepare nosuch",
    "submit nosuch",
    "submit smoke --fail-fast --max-failures 2",
    "tune nosuch",
    "sweep nosuch",
    "sweep smoke --fail-fast --max-failures 2",
    "sweep smoke --json none/law.json",
    "cancel nosuch",
    "watch nosuch",
    "report nosuch",
    "report nosuch --json none/law.json",
    "runs nosuch",
    "export nosuch",
    "show nosuch",
    "generate nosuch Once",
    "export-hf nosuch model",
    "export-hf nosuch .",
    "evaluate nosuch",
)
# Tables of published numbers are read first.
REFUSED_WITH_POLARS = (
    "frontier --law nosuch --loss 2.5",
    "frontier --law nosuch.csv --loss 2.5",
    "frontier --loss 2.5 --flops 1e21",
    "sweep smoke --slots 0",
    "tune lr-batch --slots 0",
)
ALL = REFUSED + REFUSED_WITH_POLARS
_CODE = f"""
import sys
from flows.cli import main
for words in {ALL!r}:
    try:
        main(words.split())
    except SystemExit as stop:
        status = stop.code
    loaded = sorted({HEAVY!r} & set(sys.modules))
    print(words, status, loaded)
"""


def test_no_refusal_waits_for_a_library_that_takes_seconds_to_import(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "forecasts").mkdir(parents=True)
    (home / "forecasts" / "taken.json").touch()
    (tmp_path / "table.csv").touch()
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        env={**os.environ, "ISOFLOP_HOME": str(home), "ISOFLOP_PREFECT_PORT": "1"},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        *(f"{words} 2 []" for words in REFUSED),
        *(f"{words} 2 ['polars']" for words in REFUSED_WITH_POLARS),
    ], done.stderr
    refusals = [line for line in done.stderr.splitlines() if line.startswith("isoflop: ")]
    for words, message in zip(ALL, refusals, strict=True):
        # At the beginning of a word: "." ends every sentence.
        given = words.split()[1:]
        assert any(f" {word}" in message or f"'{word}" in message for word in given), message
