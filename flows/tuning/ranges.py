"""The search ranges of a study, width by width."""

from analysis.tuning.rules import predictions
from analysis.tuning.surface import Axis
from llama_core.config import ModelConfig
from llama_core.counting import count_params
from sweeps.shapes import shape
from sweeps.tune_spec import Dimension, TuneSpec, box


def study_ranges(spec: TuneSpec) -> dict[int, list[Axis]]:
    """The searched ranges by N, as the fit of a study takes them."""
    models = [shape(spec.ladder, width, spec.make) for width in spec.ladder.widths]
    return {
        count_params(model).n_params: [
            Axis(dimension.name, dimension.low, dimension.high)
            for dimension in search_box(spec, model)
        ]
        for model in models
    }


def search_box(spec: TuneSpec, model: ModelConfig) -> list[Dimension]:
    """The search ranges at one width, from the published rules at each of its budgets."""
    counts = count_params(model)
    rules: dict[str, list[float]] = {"lr": [], "batch_tokens": []}
    for tokens in spec.tokens:
        predicted = predictions(
            n_params=counts.n_params,
            n_params_non_embedding=counts.non_embedding,
            tokens=tokens,
        )
        for quantity, value in predicted.select("quantity", "value").iter_rows():
            rules[quantity].append(value)
    return box(spec, lr_rules=rules["lr"], batch_rules=rules["batch_tokens"])
