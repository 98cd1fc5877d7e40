import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llama_core.config import Placement
from llama_core.corpus.tokenizer import Tokenizer
from llama_core.exchange.hf import export_hf, from_hf, from_hf_config, import_hf
from llama_core.exchange.hf_classes import CheckpointError
from llama_core.exchange.meta import import_meta
from llama_core.model import Llama
from llama_core.optim import adamw
from llama_core.records import StepRecord
from llama_core.schedule import lr_multiplier
from llama_core.train import train
from tests.core_tools import BATCH_TOKENS, batches, recipe, story, tiny

transformers = pytest.importorskip("transformers")

LEARNED = {"block": {"norm": "layer", "ffn": "gelu", "positions": "learned", "biases": True}}
PARALLEL = {"norm": "layer", "ffn": "gelu", "biases": True, "parallel": True}
WHOLE_HEADS = {"qk_norm": False, "n_kv_heads": 2}
# Blocks of other classes, and the class.
OTHERS = {
    "gpt3": ("GPT2LMHeadModel", {**WHOLE_HEADS, **LEARNED, "tie_embeddings": True}),
    "gpt3_untied_relu2_without_biases": (
        "GPT2LMHeadModel",
        {
            **WHOLE_HEADS,
            "block": {"norm": "layer", "ffn": "relu2", "positions": "learned"},
        },
    ),
    "neox": ("GPTNeoXForCausalLM", {**WHOLE_HEADS, "block": PARALLEL}),
    "neox_in_turn_without_biases": (
        "GPTNeoXForCausalLM",
        {
            **WHOLE_HEADS, "tie_embeddings": True,
            "block": PARALLEL | {"parallel": False, "biases": False, "ffn": "relu2"},
        },
    ),
    "palm": (
        "CohereForCausalLM",
        {
            "qk_norm": False, "n_heads": 4, "n_kv_heads": 1, "tie_embeddings": True,
            "block": {"norm": "layer", "parallel": True},
        },
    ),
    "palm_geglu_untied": (
        "CohereForCausalLM",
        {"qk_norm": False, "block": {"norm": "layer", "parallel": True, "ffn": "geglu"}},
    ),
    "llama_with_biases": ("LlamaForCausalLM", {"qk_norm": False, "block": {"biases": True}}),
    "geglu_with_qk_norm": ("Qwen3ForCausalLM", {"block": {"ffn": "geglu"}}),
}  # fmt: skip
SHAPES = {
    "geglu": {"qk_norm": False, "block": {"ffn": "geglu"}},
    "grouped": {"qk_norm": False},
    "tied": {"qk_norm": False, "tie_embeddings": True, "n_kv_heads": 2},
    "qk_norm": {"qk_norm": True},
}


def drawn(config, seed=0):
    net = Llama(config, attention="eager")
    net.init_weights(seed)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) / 10)
    return net.eval()


def theirs_of(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_exported_logits_are_those_of_transformers(tmp_path, shape):
    config = tiny(rope_theta=100.0, **SHAPES[shape])
    net = drawn(config)
    export_hf(tmp_path, config, net.state_dict(), seq_len=64, tokenizer=None)
    ids = torch.randint(0, 32, (2, 50), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(net(ids), theirs_of(tmp_path)(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_other_blocks_are_exported_to_the_class_that_computes_the_same(tmp_path, name):
    expected, shape = OTHERS[name]
    learned = shape["block"].get("positions") == "learned"
    config = tiny(rope_theta=100.0, max_positions=50 if learned else None, **shape)
    net = drawn(config)
    export_hf(tmp_path, config, net.state_dict(), seq_len=50, tokenizer=None)
    theirs = theirs_of(tmp_path)
    assert type(theirs).__name__ == expected
    ids = torch.randint(0, 32, (2, 50), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = net(ids)
        assert float(logits.std()) > 0.3
        torch.testing.assert_close(logits, theirs(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"block": {"positions": "none"}}, "Qwen3ForCausalLM, has no positions none"),
        ({"block": {"norm": "layer", "parallel": True}}, "CohereForCausalLM, has no QK-norm"),
        (
            {**WHOLE_HEADS, **LEARNED, "n_kv_heads": 1},
            "GPT2LMHeadModel, has no 2 heads of 8 on 1 key-value heads in a width of 16",
        ),
        (
            {"qk_norm": False, "block": {"parallel": True}},
            "LlamaForCausalLM, has no parallel branches",
        ),
    ],
)
def test_a_block_without_a_class_is_refused_by_what_the_nearest_class_lacks(
    tmp_path, shape, message
):
    learned = shape["block"].get("positions") == "learned"
    config = tiny(max_positions=50 if learned else None, **shape)
    state = Llama(config).state_dict()
    with pytest.raises(CheckpointError, match=message):
        export_hf(tmp_path / "out", config, state, seq_len=50, tokenizer=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_exported_is_imported_unchanged(tmp_path, shape):
    config = tiny(**SHAPES[shape])
    net = drawn(config)
    export_hf(tmp_path, config, net.state_dict(), seq_len=64, tokenizer=None)
    imported, state = import_hf(tmp_path)
    assert imported == config
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[name], weight) for name, weight in net.state_dict().items())


def test_a_checkpoint_saved_by_transformers_in_shards_gives_its_logits(tmp_path):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    model, state = import_hf(tmp_path)
    ours = Llama(model)
    ours.load_state_dict(state)
    ids = torch.randint(0, 64, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act gelu"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_type llama3"),
        ({"hidden_size": None}, "does not describe a Llama"),
    ],
)
def test_a_checkpoint_with_parts_we_lack_is_refused(change, said):
    config = {
        "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8,
    }  # fmt: skip
    from_hf_config(config)
    with pytest.raises(CheckpointError, match=said):
        from_hf_config(config | change)


@pytest.mark.parametrize("n_parts", [1, 2])
def test_metas_layout_gives_the_same_logits(tmp_path, n_parts):
    """Weights are written as Meta's code holds them, pairs interleaved and cut in parts."""
    config = tiny(qk_norm=False, n_kv_heads=2, d_ffn=48, n_heads=2)
    net = drawn(config)
    for index, part in enumerate(_as_meta(net, n_parts)):
        torch.save(part, tmp_path / f"consolidated.{index:02d}.pth")
    (tmp_path / "params.json").write_text(
        '{"dim": 16, "n_heads": 2, "n_layers": 2, "multiple_of": 48, "norm_eps": 1e-05}'
    )
    model, state = import_meta(tmp_path)
    assert model == config
    assert all(torch.equal(state[name], weight) for name, weight in net.state_dict().items())


def _as_meta(net, n_parts):
    def pairs(weight, heads):
        rows, columns = weight.shape
        halves = weight.view(heads, 2, rows // heads // 2, columns)
        return halves.transpose(1, 2).reshape(rows, columns)

    config, state = net.config, net.state_dict()
    whole = {
        "tok_embeddings": (state["embed_tokens.weight"], 1),
        "output": (state["lm_head.weight"], 0),
        "norm": (state["norm.weight"], None),
    }
    for i in range(config.n_layers):
        ours = f"layers.{i}."
        q, k, v = state[f"{ours}self_attn.qkv_proj.weight"].chunk(3)
        gate, up = state[f"{ours}mlp.gate_up_proj.weight"].chunk(2)
        whole |= {
            f"{ours}attention.wq": (pairs(q, config.n_heads), 0),
            f"{ours}attention.wk": (pairs(k, config.n_kv_heads), 0),
            f"{ours}attention.wv": (v, 0),
            f"{ours}attention.wo": (state[f"{ours}self_attn.o_proj.weight"], 1),
            f"{ours}feed_forward.w1": (gate, 0),
            f"{ours}feed_forward.w3": (up, 0),
            f"{ours}feed_forward.w2": (state[f"{ours}mlp.down_proj.weight"], 1),
            f"{ours}attention_norm": (state[f"{ours}input_layernorm.weight"], None),
            f"{ours}ffn_norm": (state[f"{ours}post_attention_layernorm.weight"], None),
        }
    for part in range(n_parts):
        yield {
            f"{name}.weight": (w if dim is None else w.chunk(n_parts, dim)[part]).clone()
            for name, (w, dim) in whole.items()
        }


def test_two_hundred_steps_track_a_plain_loop_over_transformers():
    """The loss of every step within 1e-4, from the same weights, data and seed, in fp32."""
    config = tiny(qk_norm=False, d_model=32, head_dim=16, d_ffn=80)
    cfg = recipe(200, cosine=True, warmup_tokens=10 * BATCH_TOKENS)
    data = batches(cfg)
    ours = [
        record.loss
        for record in train(config, cfg, data, placement=Placement(threads=1))
        if isinstance(record, StepRecord)
    ]
    first = Llama(config)
    first.init_weights(cfg.seed)
    theirs = _transformers_losses(config, cfg, data, first)
    difference = np.abs(np.array(ours) - np.array(theirs))
    assert difference.max() < 1e-4
    assert theirs[-1] < theirs[0] - 0.5


def _transformers_losses(config, cfg, data, first):
    from llama_core.exchange.hf import hf_config, to_hf

    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig.from_dict(hf_config(config, cfg.seq_len))
    )
    theirs.load_state_dict(to_hf(config, first.state_dict()))
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for w in theirs.parameters() if w.ndim >= 2], "weight_decay": 0.1},
            {"params": [w for w in theirs.parameters() if w.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
    )
    losses = []
    for step in range(cfg.total_steps):
        rows = torch.from_numpy(data.at(step))
        for group in optimizer.param_groups:
            group["lr"] = cfg.optimizer.lr * lr_multiplier(cfg, step, cfg.schedule.tokens)
        logits = theirs(rows[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), cfg.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(("characters", "size"), [("ascii", 350), ("unicode", 600)])
def test_the_exported_tokenizer_gives_our_ids(tmp_path, characters, size):
    texts = [story(seed) for seed in range(30)]
    made = Tokenizer.train(iter(texts), vocab_size=size, byte_fallback=characters == "unicode")
    config = tiny(vocab_size=made.vocab_size)
    export_hf(tmp_path, config, drawn(config).state_dict(), seq_len=64, tokenizer=made)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    samples = [story(99)[:300], " two  spaces\n\n", "Loss 12345."]
    if characters == "unicode":
        samples.append("naïve — 数字")
    for text in samples:
        assert loaded(text)["input_ids"] == [1, *made.encode(text)]
        assert loaded.decode(made.encode(text)) == text


def test_a_missing_weight_is_named():
    config = tiny(qk_norm=False)
    with pytest.raises(KeyError, match="embed_tokens"):
        from_hf(config, {})


def test_the_optimizer_steps_as_torchs_own_adamw_to_the_bit():
    ours, theirs = drawn(tiny()), drawn(tiny())
    cfg = recipe(1).optimizer
    made = adamw(ours, cfg)
    matrices = [weight for weight in theirs.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in theirs.parameters() if weight.ndim < 2]
    their_own = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": cfg.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), eps=cfg.eps, fused=True,
    )  # fmt: skip
    ids = torch.randint(0, 32, (2, 50), generator=torch.Generator().manual_seed(2))
    for step in range(5):
        for net, optimizer in ((ours, made), (theirs, their_own)):
            for group in optimizer.param_groups:
                group["lr"] = cfg.lr / (step + 1)
            net.zero_grad()
            net(ids).square().mean().backward()
            optimizer.step()
    before = drawn(tiny()).state_dict()
    for name, weight in ours.state_dict().items():
        assert torch.equal(weight, theirs.state_dict()[name])
        assert not torch.equal(weight, before[name])
