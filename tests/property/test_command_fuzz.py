"""Any spec and any command line: an answer or a refusal in a line, never a traceback."""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cli import main
from sweeps.load import SpecError, load_spec, load_tune_spec
from sweeps.plan import plan
from sweeps.spec import DataRef, SweepSpec
from sweeps.tune_spec import TuneSpec
from tests.conftest import ROOT

# Names of settings at any depth, so that a random group is often nearly a spec.
NAMES = (
    *SweepSpec.model_fields,
    *TuneSpec.model_fields,
    *("kind", "widths", "budgets", "tokens", "tokens_per_param", "min_tokens", "lr", "low", "high"),
    *("batch_tokens", "study", "sources", "path", "text_field", "vocab_size", "device", "threads"),
    *("usd", "hours", "flops", "weight", "n_layers", "head_dim", "coef", "per", "cap", "fitted"),
)
KINDS = ("isoflop", "tokens", "width", "fixed", "llama", "law", "files", "hub", "environment")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 64),
    st.floats(),
    st.sampled_from([*KINDS, "auto", "cpu", "wsd", "cosine", "float32", "1e10", "published", ""]),
    st.text(max_size=8),
    st.dates(),
)
KEYS = st.one_of(st.sampled_from(NAMES), st.text(max_size=6), st.integers(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=12,
)
GOOD: dict[str, Any] = {
    "name": "mine",
    "ladder": {"widths": [16, 32]},
    "grid": {"kind": "isoflop", "budgets": [1e10, 2e10]},
}
# A good spec in which any settings are any values, or anything at all.
SPECS = st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=6).map(lambda other: GOOD | other))
OVERRIDES = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.builds(
            "{}={}".format,
            st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(".".join),
            st.one_of(SCALARS.map(str), st.text(max_size=8), st.just("[1e10, 2e10]")),
        ),
    ),
    max_size=2,
)

# Commands that start nothing, with options to stumble over.
COMMANDS = (
    *("plan", "runs", "show", "report", "compare", "export", "fit", "fit-lr", "frontier"),
    *("retrodict", "watch", "generate", "export-hf", "status", "--help", "--version", "nonsense"),
)
WORDS = st.one_of(
    st.sampled_from(
        (
            *("smoke", "demo", "besiroglu", "--json", "-", "--level", "--bootstrap", "--seed"),
            *("--flops", "--loss", "--like", "--law", "--inference-tokens", "--gpu", "h100"),
            *("--days", "--batch", "--bits", "--price", "--set", "--slots", "--map", "--by"),
            *("--where", "--pool", "--form", "--objective", "--delta", "--corpus", "--mfu"),
            *("--format", "csv", "--horizon", "--tokens", "--max-flops", "--help", "--version"),
            *("0", "-1", "1e20", "0.5", "nan", "inf", "1e400", "7e9,1e12", "1e11:1e13", "N=x"),
            *("pyproject.toml", "README.md", ".", "/", "/dev/null", "x" * 300),
        )
    ),
    st.text(max_size=6),
)
LINES = st.builds(
    lambda command, words: [command, *words], st.sampled_from(COMMANDS), st.lists(WORDS, max_size=6)
)
# Text of a terminal has no lone surrogates; the system passes no NUL in an argument.
NUL = "\0"


@contextlib.contextmanager
def elsewhere() -> Iterator[Path]:
    """A home and a working directory of a command line's own."""
    before, home = Path.cwd(), os.environ.get("ISOFLOP_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ISOFLOP_HOME"] = str(Path(folder) / "home")
        os.chdir(folder)
        for name in ("pyproject.toml", "README.md"):
            Path(name).write_bytes((ROOT / name).read_bytes())
        try:
            yield Path(folder)
        finally:
            os.chdir(before)
            os.environ.pop("ISOFLOP_HOME")
            if home is not None:
                os.environ["ISOFLOP_HOME"] = home


def check_command(line: list[str]) -> None:
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with elsewhere(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main([word.replace(NUL, "") for word in line])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 0
    assert status in (0, 1, 2), (line, status)
    assert "Traceback" not in errors.getvalue()
    assert "errors.pydantic.dev" not in errors.getvalue()
    assert status == 0 or errors.getvalue() or output.getvalue()


def check_spec(spec: Any, overrides: list[str]) -> None:
    try:
        text = yaml.safe_dump(spec, allow_unicode=True)
    except yaml.YAMLError:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_text(text, encoding="utf-8", errors="replace")
        refusals = [refusal_of(load, str(path), overrides) for load in (load_spec, load_tune_spec)]
    for refusal in refusals:
        assert "\n" not in refusal
        assert "validation error" not in refusal


def refusal_of(load: Callable[..., SweepSpec | TuneSpec], path: str, overrides: list[str]) -> str:
    """What the reader says against the spec; empty if it reads it. A plan may refuse it too."""
    try:
        read = load(path, overrides)
    except SpecError as refusal:
        return str(refusal)
    if isinstance(read, SweepSpec):
        with contextlib.suppress(ValueError):
            plan(read, DataRef(digest=""))
    return ""


FEW = settings(max_examples=60, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(max_examples=20_000, suppress_health_check=list(HealthCheck))


@FEW
@given(spec=SPECS, overrides=OVERRIDES)
def test_any_spec_is_read_or_refused_in_a_line(spec: Any, overrides: list[str]) -> None:
    check_spec(spec, overrides)


@FEW
@given(line=LINES)
def test_any_command_line_is_answered_or_refused(line: list[str]) -> None:
    check_command(line)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@MANY
@given(spec=SPECS, overrides=OVERRIDES)
def test_twenty_thousand_specs_are_read_or_refused_in_a_line(
    spec: Any, overrides: list[str]
) -> None:
    check_spec(spec, overrides)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(MANY, max_examples=2_000)
@given(line=LINES)
def test_two_thousand_command_lines_are_answered_or_refused(line: list[str]) -> None:
    check_command(line)
