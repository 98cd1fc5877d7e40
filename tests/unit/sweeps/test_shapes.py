"""Ladders grow as models do: by depths, by sizes asked for, or by shapes one by one."""

import math
import shlex

import pytest

from llama_core.counting import count_params
from llama_core.family import FAMILY
from sweeps.ladder import DepthLadder, Ladder, Shape, ShapeLadder, SizeLadder
from sweeps.load import SpecError, load_spec
from sweeps.next_cells import ladder_and_neighbours, next_cells, next_spec
from sweeps.plan import plan
from sweeps.rate_checks import check_command, check_runs, extremes
from sweeps.shapes import Make, only, sizes
from sweeps.spec import DataRef, SweepSpec

DATA = DataRef(digest="x")
VOCAB = 32_000
SMALL = "head_dim: 16, aspect: 16, ffn_multiple_of: 8"
GRID = "grid={kind: tokens, tokens: [8192, 16384]}"


def n_params(model):
    return count_params(model).n_params


def models(ladder, vocab_size=VOCAB):
    return [size.model for size in sizes(ladder, Make(vocab_size))]


@pytest.mark.parametrize(
    ("name", "depth"), [("llama-7b", 32), ("llama-13b", 40), ("llama-65b", 64)]
)
def test_a_depth_at_llamas_aspect_and_heads_is_llamas_shape(name, depth):
    aspect = FAMILY[name].model.d_model / depth
    [model] = models(DepthLadder(depths=(depth,), aspect=aspect, head_dim=128))
    published = FAMILY[name].model
    assert model == published.model_copy(update={"n_layers": depth})


@pytest.mark.parametrize(
    ("depth", "head_dim", "per_kv_head", "width"),
    # 64 times the depth is 320 at 5: half a head of 128 is rounded up.
    [(5, 64, 1, 320), (5, 128, 1, 384), (1, 128, 1, 128), (7, 64, 4, 512), (1, 64, 4, 256)],
)
def test_a_width_is_the_aspect_times_the_depth_in_whole_groups_of_heads(
    depth, head_dim, per_kv_head, width
):
    ladder = DepthLadder(depths=(depth,), head_dim=head_dim, query_heads_per_kv_head=per_kv_head)
    [model] = models(ladder)
    assert model.d_model == width == model.n_heads * model.head_dim
    assert model.n_heads == per_kv_head * model.n_kv_heads


def test_the_shape_of_a_size_is_the_nearest_of_all_depths():
    asked = (20e6, 50e6, 125e6, 300e6, 1e9)
    chosen = sizes(SizeLadder(sizes=asked), Make(VOCAB))
    every = models(DepthLadder(depths=tuple(range(1, 40))))
    assert [size.asked for size in chosen] == list(asked)
    for size in chosen:
        distance = abs(math.log(n_params(size.model) / size.asked))
        assert distance == min(abs(math.log(n_params(other) / size.asked)) for other in every)


def test_a_size_is_counted_without_the_input_embedding():
    [model] = models(DepthLadder(depths=(12,)))
    counts = count_params(model)
    for N in (counts.n_params, counts.n_params * 1.01):
        [again] = models(SizeLadder(sizes=(N,)))
        assert again == model
    # The total of this shape is nearer to the next deeper one.
    assert models(SizeLadder(sizes=(counts.total,))) != [model]


def test_two_sizes_of_one_shape_and_a_size_without_a_shape_are_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"110M and 115M.* shape to both is d768x12"):
        sizes(SizeLadder(sizes=(110e6, 115e6)), Make(VOCAB))
    with pytest.raises(ValueError, match=r"N = 100k, and the nearest shape, d64x1, has 2.11M"):
        sizes(SizeLadder(sizes=(1e5,)), Make(VOCAB))


def test_shapes_are_taken_as_they_are_listed():
    listed = ShapeLadder(
        shapes=(
            Shape(n_layers=12, d_model=768),
            Shape(n_layers=16, d_model=2048, head_dim=256, d_ffn=8192),
        )
    )
    first, second = models(listed)
    assert (first.n_heads, first.head_dim, first.d_ffn) == (12, 64, 2048)
    assert (second.n_heads, second.head_dim, second.d_ffn) == (8, 256, 8192)


def test_a_shape_of_broken_heads_and_a_shape_twice_are_refused():
    with pytest.raises(ValueError, match=r"d_model=700 is not made of whole heads of 64. Use 640"):
        sizes(ShapeLadder(shapes=(Shape(n_layers=2, d_model=700),)), Make(VOCAB))
    twins = (Shape(n_layers=2, d_model=64), Shape(n_layers=2, d_model=64, d_ffn=128))
    with pytest.raises(ValueError, match="two shapes of d_model=64 and n_layers=2"):
        sizes(ShapeLadder(shapes=twins), Make(VOCAB))


def test_a_ladder_is_told_by_what_it_is_given_by_and_takes_no_two():
    for given, kind in (
        ("widths: [16]", Ladder),
        ("depths: [2]", DepthLadder),
        ("sizes: [20e6]", SizeLadder),
        ("shapes: [{n_layers: 2, d_model: 64}]", ShapeLadder),
    ):
        spec = load_spec("smoke", [f"ladder={{{given}}}", GRID])
        assert type(spec.ladder) is kind
        assert SweepSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(SpecError, match=r"widths and depths both say .* --set 'ladder={depths: "):
        load_spec("smoke", ["ladder.depths=[2]"])
    with pytest.raises(SpecError, match=r"unknown key ladder.depth \(did you mean depths\?\)"):
        load_spec("smoke", ["ladder={depths: [1], depth: 2}"])


def test_runs_of_a_grown_ladder_are_named_by_width_and_depth():
    spec = load_spec("smoke", [f"ladder={{depths: [1, 3], {SMALL}}}", GRID])
    assert [run.name for run in plan(spec, DATA).runs] == ["d16x1", "d48x3"]


@pytest.mark.parametrize(
    "ladder",
    [
        f"{{depths: [1, 2, 4], {SMALL}}}",
        f"{{sizes: [12e3, 30e3, 160e3], {SMALL}}}",
        "{shapes: [{n_layers: 1, d_model: 32}, {n_layers: 2, d_model: 32}], head_dim: 16}",
    ],
)
def test_checks_and_next_runs_of_a_grown_ladder_are_of_its_own_shapes(ladder, tmp_path):
    spec = load_spec("smoke", [f"ladder={ladder}", GRID])
    planned = plan(spec, DATA)
    path = tmp_path / "spec.yaml"
    path.write_text(spec.model_dump_json())
    for run in extremes(planned):
        for check in check_runs(run):
            settings = shlex.split(check_command(planned, check))[4::2]
            [again] = plan(load_spec(str(path), settings), DATA).runs
            assert again.id == check.id
    had = {run.run.model for run in planned.runs}
    assert set(models(only(spec.ladder, had), spec.corpus.vocab_size)) == had
    widths = sorted({model.d_model for model in had})
    if not isinstance(spec.ladder, ShapeLadder):
        widths = ladder_and_neighbours(widths)
    cells = next_cells(planned, widths, (10, 30), (0, 1e15))
    assert had <= {cell.model for cell in cells}
    again = plan(next_spec(planned, cells), DATA)
    got = {(run.run.model, cell.tokens) for run in again.runs for cell in run.cells}
    assert got == {(cell.model, cell.tokens) for cell in cells}


def test_a_design_refuses_two_sizes_of_one_width():
    shapes = "shapes: [{n_layers: 1, d_model: 32}, {n_layers: 2, d_model: 32}], head_dim: 16"
    with pytest.raises(SpecError, match=r"d32x1 and d32x2 both have d_model=32. Remove"):
        load_spec("smoke", [f"ladder={{{shapes}}}", "design={kind: next}"])
