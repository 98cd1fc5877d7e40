"""The core trains with only the packages it names installed."""

import os
import subprocess
import sys
from pathlib import Path

from tests.core_tools import story

ROOT = Path(__file__).resolve().parents[2]
# What llama_core may need, with what those packages need themselves.
NAMED = {"torch", "numpy", "pydantic", "safetensors", "sentencepiece"}
BELOW = {
    *("torchgen", "functorch", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2"),
    *("markupsafe", "filelock", "fsspec", "packaging", "setuptools", "pkg_resources", "triton"),
    *("nvidia", "cuda", "pydantic_core", "annotated_types", "typing_inspection"),
}

TRAINER = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path

allowed = {*sys.argv[2].split(","), *sys.stdlib_module_names, "llama_core"}

class BareFinder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        # The second is the library's own, with the platform in its name.
        known = name.partition(".")[0] in allowed or name.startswith("_sysconfigdata")
        return PathFinder.find_spec(name, path, target) if known else None

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, BareFinder]

from llama_core.config import AdamW, ModelConfig, TrainConfig, Wsd
from llama_core.corpus.config import CorpusConfig, FileText
from llama_core.corpus.preparation import prepare
from llama_core.records import EvalRecord
from llama_core.train import train

home = Path(sys.argv[1])
corpus = prepare(CorpusConfig(sources=(FileText(path=str(home / "text")),), vocab_size=300), home)
model = ModelConfig(
    vocab_size=300, d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_ffn=32
)
cfg = TrainConfig(
    seq_len=16, batch_tokens=64, warmup_tokens=64, schedule=Wsd(horizons=(640,)),
    optimizer=AdamW(lr=1e-2), eval_tokens=64,
)
records = train(model, cfg, corpus.open(cfg), checkpoints=home / "run" / "checkpoints")
(last,) = (record for record in records if isinstance(record, EvalRecord))
print(last.val_loss)
"""


def run_bare(home: Path) -> subprocess.CompletedProcess[str]:
    (home / "text").mkdir()
    for number in range(20):
        (home / "text" / f"{number}.txt").write_text(story(number, 20))
    return subprocess.run(
        [sys.executable, "-c", TRAINER, str(home), ",".join(sorted(NAMED | BELOW))],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_core_prepares_text_and_trains_with_nothing_but_what_it_names(tmp_path):
    done = run_bare(tmp_path)
    assert done.returncode == 0, done.stderr
    assert 2.0 < float(done.stdout) < 6.0


def test_a_package_that_is_not_named_cannot_be_imported_there(tmp_path):
    """Otherwise the test above would prove nothing."""
    probe = TRAINER.partition("from llama_core.config")[0] + "import polars"
    said = subprocess.run(
        [sys.executable, "-c", probe, str(tmp_path), ",".join(sorted(NAMED | BELOW))],
        capture_output=True,
        text=True,
    )
    assert "ModuleNotFoundError: No module named 'polars'" in said.stderr
