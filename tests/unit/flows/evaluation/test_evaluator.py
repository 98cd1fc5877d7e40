"""What an evaluation needs before it begins."""

import importlib.util
import subprocess
import sys

import pytest

from flows.evaluation.evaluator import require_harness


def test_without_the_harness_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'isoflop\[eval\]'"):
        require_harness()


@pytest.mark.slow
def test_progress_bars_of_the_harness_and_its_libraries_are_off():
    script = (
        "from flows.evaluation.evaluator import require_harness; require_harness(); "
        "import flows.evaluation.harness, tqdm; raise SystemExit(not tqdm.tqdm([]).disable)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
