"""A release of Meta's is joined from its parts, its heads' rows reordered."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from llama_core.config import llama_ffn_width
from llama_core.exchange.hf import (
    CheckpointError,
    export_hf,
    from_hf,
    from_hf_config,
    hf_config,
    import_hf,
    to_hf,
)
from llama_core.exchange.meta import _halves_from_pairs, import_meta
from llama_core.model import Llama
from tests.disk import files_up_to
from tests.fakes import planned_run

PARAMS = {"dim": 8, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "multiple_of": 4,
          "norm_eps": 1e-5, "vocab_size": -1}  # fmt: skip
FFN = llama_ffn_width(8, multiple_of=4)
WHOLE = {
    "tok_embeddings": (12, 8), "output": (12, 8), "norm": (8,),
    "layers.0.attention.wq": (8, 8), "layers.0.attention.wk": (4, 8),
    "layers.0.attention.wv": (4, 8), "layers.0.attention.wo": (8, 8),
    "layers.0.feed_forward.w1": (FFN, 8), "layers.0.feed_forward.w3": (FFN, 8),
    "layers.0.feed_forward.w2": (8, FFN), "layers.0.attention_norm": (8,),
    "layers.0.ffn_norm": (8,),
}  # fmt: skip


def weights():
    generator = torch.Generator().manual_seed(0)
    return {f"{name}.weight": torch.randn(shape, generator=generator)
            for name, shape in WHOLE.items()}  # fmt: skip


def write(folder, parts, **params):
    (folder / "params.json").write_text(json.dumps(PARAMS | params))
    for number, part in enumerate(parts):
        torch.save(part, folder / f"consolidated.{number:02d}.pth")


def split(state, *, embedding_by):
    """Two parts, cut as Meta's code cuts them."""
    parts = [{}, {}]
    for name, weight in state.items():
        if name.endswith("norm.weight"):
            pieces = (weight, weight)
        else:
            columns = name.endswith(("attention.wo.weight", "feed_forward.w2.weight"))
            by = embedding_by if name == "tok_embeddings.weight" else int(columns)
            pieces = weight.chunk(2, dim=by)
        for part, piece in zip(parts, pieces, strict=True):
            part[name] = piece.clone()
    return parts


@pytest.mark.parametrize("embedding_by", [0, 1])
def test_a_release_in_two_parts_is_the_same_as_in_one(tmp_path, embedding_by):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write(tmp_path / "one", [weights()])
    write(tmp_path / "two", split(weights(), embedding_by=embedding_by))
    model, whole = import_meta(tmp_path / "one")
    again, joined = import_meta(tmp_path / "two")
    assert again == model
    assert joined.keys() == whole.keys()
    for name, weight in whole.items():
        assert torch.equal(joined[name], weight), name
    assert (model.vocab_size, model.d_ffn, model.head_dim) == (12, FFN, 4)
    assert (model.n_heads, model.n_kv_heads, model.rope_theta) == (2, 1, 10_000.0)
    Llama(model).load_state_dict(whole)


def test_every_weight_has_its_place(tmp_path):
    parts = weights()
    parts["layers.0.attention.wk.weight"] = torch.randn(8, 8)
    parts["layers.0.attention.wv.weight"] = torch.randn(8, 8)
    write(tmp_path, [parts], rope_theta=5e5, n_kv_heads=None)
    model, state = import_meta(tmp_path)
    assert (model.n_kv_heads, model.rope_theta) == (2, 5e5)
    q, k, v = state["layers.0.self_attn.qkv_proj.weight"].chunk(3)
    assert torch.equal(q, _halves_from_pairs(parts["layers.0.attention.wq.weight"], 2))
    assert torch.equal(k, _halves_from_pairs(parts["layers.0.attention.wk.weight"], 2))
    assert torch.equal(v, parts["layers.0.attention.wv.weight"])
    gate, up = state["layers.0.mlp.gate_up_proj.weight"].chunk(2)
    assert torch.equal(gate, parts["layers.0.feed_forward.w1.weight"])
    assert torch.equal(up, parts["layers.0.feed_forward.w3.weight"])
    assert torch.equal(state["layers.0.mlp.down_proj.weight"],
                       parts["layers.0.feed_forward.w2.weight"])  # fmt: skip
    norms = state["layers.0.input_layernorm.weight"]
    assert torch.equal(norms, parts["layers.0.attention_norm.weight"])


def test_pairs_of_neighbours_become_pairs_of_halves():
    # Two heads of four rows; Meta turns rows (0, 1) and (2, 3) of a head together.
    rows = torch.arange(8.0)[:, None].expand(8, 3)
    assert _halves_from_pairs(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_scaled_positions_are_refused(tmp_path):
    write(tmp_path, [weights()], use_scaled_rope=True)
    with pytest.raises(CheckpointError, match="scaled rotary positions"):
        import_meta(tmp_path)


@pytest.mark.parametrize("missing", ["n_heads", "norm_eps"])
def test_a_release_that_lacks_a_parameter_is_refused_by_its_name(tmp_path, missing):
    write(tmp_path, [weights()])
    params = {key: value for key, value in PARAMS.items() if key != missing}
    (tmp_path / "params.json").write_text(json.dumps(params))
    with pytest.raises(CheckpointError, match=f"'{missing}' is missing"):
        import_meta(tmp_path)


def test_a_folder_without_parts_or_with_a_damaged_one_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no consolidated"):
        import_meta(tmp_path)
    write(tmp_path, [weights()])
    (tmp_path / "consolidated.00.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_meta(tmp_path)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"qk_norm": True}])
def test_a_model_comes_back_from_hugging_faces_names_and_config(changes):
    model = planned_run().run.model.model_copy(update={"n_kv_heads": 1, **changes})
    net = Llama(model)
    net.init_weights(0)
    state = net.state_dict()
    theirs = to_hf(model, state)
    assert ("lm_head.weight" in theirs) is not model.tie_embeddings
    q, k, v = state["layers.0.self_attn.qkv_proj.weight"].split([32, 16, 16])
    for part, piece in zip("qkv", (q, k, v), strict=True):
        assert torch.equal(theirs[f"model.layers.0.self_attn.{part}_proj.weight"], piece)
    back = from_hf(model, theirs)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    config = hf_config(model, 128)
    assert from_hf_config(config) == model
    assert config["model_type"] == ("qwen3" if model.qk_norm else "llama")
    assert config["max_position_embeddings"] == 128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is neither llama nor qwen3"),
        ({"attention_bias": True}, "attention_bias, which"),
        ({"mlp_bias": True}, "mlp_bias, which"),
        ({"use_sliding_window": True}, "sliding window"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_type linear"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type yarn"),
        ({"hidden_size": None}, "does not describe a Llama"),
    ],
)
def test_a_config_with_parts_this_model_lacks_is_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        from_hf_config(hf_config(planned_run().run.model, 128) | change)


def test_a_config_of_an_older_transformers_has_its_defaults():
    config = hf_config(planned_run().run.model, 128)
    for key in ("num_key_value_heads", "head_dim", "rope_theta", "rope_parameters"):
        del config[key]
    model = from_hf_config(config)
    assert (model.n_kv_heads, model.head_dim, model.rope_theta) == (2, 16, 10_000.0)


@pytest.mark.parametrize("most", [100, 5_000])
def test_an_export_that_does_not_fit_on_the_disk_leaves_a_folder_that_takes_the_next(
    tmp_path, most
):
    model = planned_run().run.model
    state, folder = Llama(model).state_dict(), tmp_path / "model"
    with files_up_to(most), pytest.raises((CheckpointError, OSError)) as refused:
        export_hf(folder, model, state, seq_len=128, tokenizer=None)
    assert most < 1_000 or f"{folder / 'model.safetensors'} cannot be written" in str(refused.value)
    assert list(folder.iterdir()) == []
    export_hf(folder, model, state, seq_len=128, tokenizer=None)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("sharded", [False, True])
def test_an_exported_model_is_read_back_from_its_files(tmp_path, sharded):
    model = planned_run().run.model
    net = Llama(model)
    net.init_weights(0)
    folder = tmp_path / "deep" / "model"
    export_hf(folder, model, net.state_dict(), seq_len=128, tokenizer=None)
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
    }
    if sharded:
        weights = load_file(folder / "model.safetensors")
        names = sorted(weights)
        (folder / "model.safetensors").unlink()
        places = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(names)}
        for file in set(places.values()):
            save_file({n: weights[n] for n in names if places[n] == file}, folder / file)
        index = json.dumps({"weight_map": places})
        (folder / "model.safetensors.index.json").write_text(index)
    shape, state = import_hf(folder)
    assert shape == model
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[name], weight) for name, weight in net.state_dict().items())


def test_a_checkpoint_without_a_file_or_a_weight_is_refused_by_its_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json cannot be read"):
        import_hf(tmp_path)
    model = planned_run().run.model
    (tmp_path / "config.json").write_text(json.dumps(hf_config(model, 128)))
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
        import_hf(tmp_path)
    weights = to_hf(model, Llama(model).state_dict())
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has no weight 'model.norm.weight'"):
        import_hf(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        import_hf(tmp_path)
