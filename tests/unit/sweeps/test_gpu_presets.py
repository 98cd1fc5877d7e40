"""The presets for GPUs: a valley at every budget, and steps and batches as people train."""

import pytest

from analysis import published
from llama_core.config import Placement
from llama_core.corpus.config import HubText
from llama_core.counting import count_params
from llama_core.memory import rows_that_fit
from sweeps.load import load_spec
from sweeps.plan import Plan, plan
from sweeps.spec import DataRef

# Smallest and largest budget, smallest and largest N.
RANGES = {"gpu-day": (1e17, 3e18, 15e6, 300e6), "gpu-week": (1e18, 1e20, 30e6, 1.5e9)}
# Horizons of each trunk, by depth of the model.
TRUNKS = {
    "gpu-day": {
        4: [1], 5: [2], 6: [3], 7: [4], 8: [5], 10: [4, 2], 12: [4], 14: [3], 16: [2], 18: [1],
    },
    "gpu-week": {
        7: [1], 8: [2], 10: [3], 12: [3, 1], 14: [3, 1], 16: [3, 1], 18: [3, 2], 20: [3, 1],
        23: [3], 26: [2], 31: [1],
    },
}  # fmt: skip
# Fits of Hoffmann et al.'s runs by themselves and by Besiroglu et al. 2024; N counts everything.
LAWS = ("hoffmann_tex", "besiroglu")


@pytest.fixture(scope="module", params=RANGES)
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(load_spec(request.param), DataRef(digest="x"))


def cells(planned: Plan, budget: float) -> list[tuple[int, int]]:
    """Every parameter of each model at a budget, and its tokens, in order of size."""
    return sorted(
        (count_params(run.run.model).total, cell.tokens)
        for run in planned.runs
        for cell in run.cells
        if cell.flops_budget == budget
    )


def test_a_gpu_preset_spans_its_budgets_and_sizes_without_a_warning(planned: Plan) -> None:
    assert planned.warnings == ()
    least, most, smallest, largest = RANGES[planned.spec.name]
    budgets = sorted(planned.spec.grid.budgets)
    sizes = [run.n_params for run in planned.runs]
    # Budgets and sizes are what their name says within a third.
    for got, said in zip(
        (budgets[0], budgets[-1], min(sizes), max(sizes)),
        (least, most, smallest, largest),
        strict=True,
    ):
        assert 1 / 1.34 < got / said < 1.34
    assert len(budgets) == 6
    assert planned.observations >= 30


@pytest.mark.parametrize("law", LAWS)
def test_every_budget_of_a_gpu_preset_has_its_minimum_inside(planned: Plan, law: str) -> None:
    loss = published.law(law).loss
    for budget in planned.spec.grid.budgets:
        losses = [float(loss(N, D)) for N, D in cells(planned, budget)]
        best = losses.index(min(losses))
        assert 0 < best < len(losses) - 1
        # The minimum is not at the edge by a hair: the nearest, at 2.4e17, rises by 0.2 %.
        assert min(losses[0], losses[-1]) > losses[best] * 1.0015


def test_the_horizons_of_a_gpu_preset_share_the_trunks_that_finished_runs_have(
    planned: Plan,
) -> None:
    # A trunk's horizons are part of its run's id: other groups would train for days again.
    groups: dict[int, list[int]] = {}
    for run in sorted(planned.runs, key=lambda run: (run.n_params, run.cells[0].tokens)):
        groups.setdefault(run.run.model.n_layers, []).append(len(run.cells))
    assert groups == TRUNKS[planned.spec.name]


def test_every_horizon_of_a_gpu_preset_takes_a_thousand_to_a_hundred_thousand_steps(
    planned: Plan,
) -> None:
    for run in planned.runs:
        for cell in run.cells:
            assert 1_000 <= cell.tokens / run.run.train.batch_tokens <= 100_000
        assert run.steps <= 100_000


def test_a_gpu_preset_trains_as_published_runs_of_its_sizes_do(planned: Plan) -> None:
    [source] = planned.spec.corpus.sources
    assert isinstance(source, HubText)
    for run in planned.runs:
        model, train = run.run.model, run.run.train
        assert (model.vocab_size, train.seq_len, train.dtype) == (32_000, 2048, "bfloat16")
        assert not model.qk_norm
        assert model.d_model == model.n_heads * 64
        # GPT-3's smaller models had 0.5M and 1M tokens a step and rates of 6e-4 to 2e-4
        # (Brown et al. 2020, table 2.1); OLMo's ladder and nanochat are a few times above that.
        assert 2**16 <= train.batch_tokens <= 2**20
        assert 5e-4 <= train.optimizer.lr <= 3e-3
        assert train.warmup_tokens <= 0.1 * run.cells[0].tokens


def test_a_step_of_a_gpu_preset_fits_an_h100_in_micro_steps_of_8192_tokens(planned: Plan) -> None:
    memory = published.device("h100")["memory_bytes"] * 0.85
    for run in planned.runs:
        train = run.run.train
        rows = rows_that_fit(
            run.run.model,
            train,
            Placement(),
            rows=train.batch_tokens // train.seq_len,
            eager=False,
            budget=memory,
        )
        # Fewer leave a GPU idle between kernels.
        assert rows * train.seq_len >= 8192
