"""Writes tests/golden/families: one tiny random checkpoint or more of every family, and what transformers and PEFT compute with them.

    OMP_NUM_THREADS=1 python tests/python/golden_families.py            # rewrites tests/golden/families
    OMP_NUM_THREADS=1 python tests/python/golden_families.py --check    # compares with what is there, writes nothing
    OMP_NUM_THREADS=1 python tests/python/golden_families.py gemma2 ..  # rewrites these cases alone

As in make_golden.py, which calls `write`: float64, eager attention, one example at a time, no padding and no cache; the casts to float32
inside transformers are lifted, its float32 rotary angles are left. Weights are stored in BF16 and values computed from those. Values of
ragged batches are not padded but joined: `[tokens of all examples, ...]`.
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import peft
import safetensors.torch
import tokenizers
import torch
import transformers
from transformers import AutoModelForCausalLM

import golden_family_steps
import golden_self_distillation

HIDDEN, INNER, VOCAB, CONTEXT = 32, 40, 128, 512
LENGTHS = [3, 10, 21]
NEW_TOKENS = 10
WINDOW = 8
FLOAT32_TOLERANCE = 5e-6
ROOT = Path(__file__).resolve().parents[2]

SLIDING, FULL = "sliding_attention", "full_attention"
THETA = dict(rope_type="default", rope_theta=10000.0)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=CONTEXT // 4, beta_fast=4.0, beta_slow=1.0)
# Four rotary pairs of wavelength 6.3, 39, 247, ...: the first is kept, the second blended, the others divided.
LLAMA3 = dict(rope_type="llama3", rope_theta=1500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
# The keys of the other spelling that follow from what the file says anyway.
DERIVED = ("dtype", "layer_types", "_sliding_window_pattern")


def heads(query, key, **more):
    return dict(num_attention_heads=query, num_key_value_heads=key, **more)


# name -> (class of the configuration, spelling of config.json, settings)
CASES = {
    "mistral": ("MistralConfig", "older", dict(
        num_hidden_layers=2, **heads(4, 2), sliding_window=WINDOW, rope_parameters=THETA)),
    "mistral_yarn": ("MistralConfig", "new", dict(
        num_hidden_layers=2, **heads(2, 1, head_dim=8), sliding_window=None, rope_parameters=YARN)),
    "gemma2": ("Gemma2Config", "older", dict(
        num_hidden_layers=3, **heads(4, 2, head_dim=12), sliding_window=WINDOW, query_pre_attn_scalar=20, attn_logit_softcapping=3.0,
        final_logit_softcapping=6.0, rope_parameters=THETA)),
    "gemma3_text": ("Gemma3TextConfig", "older", dict(
        num_hidden_layers=4, **heads(4, 1, head_dim=8), sliding_window=WINDOW, query_pre_attn_scalar=6,
        layer_types=[SLIDING, SLIDING, FULL, SLIDING],
        rope_parameters={FULL: dict(rope_type="linear", factor=8.0, rope_theta=1e6), SLIDING: THETA})),
    "gemma3": ("Gemma3Config", "new", dict(
        text_config=dict(num_hidden_layers=3, **heads(4, 2, head_dim=8), sliding_window=WINDOW, query_pre_attn_scalar=16,
                         layer_types=[SLIDING, FULL, SLIDING], hidden_size=HIDDEN, intermediate_size=INNER, vocab_size=VOCAB,
                         max_position_embeddings=CONTEXT, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        vision_config=dict(model_type="siglip_vision_model", hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                           num_attention_heads=1, image_size=4, patch_size=2, vision_use_head=False),
        mm_tokens_per_image=4, boi_token_index=125, eoi_token_index=126, image_token_index=127)),
    "gpt2": ("GPT2Config", "older", dict(n_embd=HIDDEN, n_head=4, n_layer=3, n_positions=CONTEXT)),
    "gpt2_inner": ("GPT2Config", "new", dict(
        n_embd=HIDDEN, n_head=2, n_layer=2, n_positions=64, n_inner=INNER, tie_word_embeddings=False)),
    "gpt_neox": ("GPTNeoXConfig", "older", dict(
        num_hidden_layers=3, num_attention_heads=4, use_parallel_residual=True,
        rope_parameters=dict(THETA, partial_rotary_factor=0.5))),
    "gpt_neox_sequential": ("GPTNeoXConfig", "new", dict(
        num_hidden_layers=2, num_attention_heads=2, use_parallel_residual=False,
        rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=10000.0, partial_rotary_factor=0.25))),
    "phi3": ("Phi3Config", "new", dict(
        num_hidden_layers=2, **heads(4, 4), sliding_window=WINDOW, rope_parameters=dict(THETA, partial_rotary_factor=1.0))),
    "phi3_longrope": ("Phi3Config", "older", dict(
        num_hidden_layers=2, **heads(4, 2), sliding_window=None, original_max_position_embeddings=16, partial_rotary_factor=0.75,
        max_position_embeddings=64, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.25, 1.5],
                             long_factor=[2.0, 3.0, 5.0], original_max_position_embeddings=16))),
    "olmo2": ("Olmo2Config", "older", dict(num_hidden_layers=2, **heads(4, 2), rope_parameters=THETA)),
    "olmo3": ("Olmo3Config", "older", dict(
        num_hidden_layers=4, **heads(4, 4), sliding_window=WINDOW, layer_types=[SLIDING, FULL, SLIDING, FULL],
        rope_parameters={FULL: dict(YARN, rope_theta=500000.0), SLIDING: dict(rope_type="default", rope_theta=500000.0)})),
    "smollm3": ("SmolLM3Config", "new", dict(
        num_hidden_layers=4, **heads(4, 1), no_rope_layers=[1, 0, 1, 1], rope_parameters=LLAMA3)),
    "smollm3_window": ("SmolLM3Config", "older", dict(
        num_hidden_layers=3, **heads(4, 2), no_rope_layer_interval=2, use_sliding_window=True, sliding_window=WINDOW,
        rope_parameters=dict(rope_type="default", rope_theta=2e6))),
    "granite": ("GraniteConfig", "older", dict(
        num_hidden_layers=2, **heads(4, 2), attention_multiplier=0.5, embedding_multiplier=6.0, residual_multiplier=1.25,
        logits_scaling=4.0, tie_word_embeddings=True, rope_parameters=THETA)),
    "qwen3_moe": ("Qwen3MoeConfig", "older", dict(
        num_hidden_layers=3, **heads(4, 2, head_dim=8), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        norm_topk_prob=True, mlp_only_layers=[1], decoder_sparse_step=1, rope_parameters=THETA)),
    "qwen3_moe_raw": ("Qwen3MoeConfig", "new", dict(
        num_hidden_layers=2, **heads(4, 1, head_dim=8), num_experts=3, num_experts_per_tok=1, moe_intermediate_size=16,
        norm_topk_prob=False, tie_word_embeddings=True, rope_parameters=THETA)),
    "qwen2_window": ("Qwen2Config", "older", dict(
        num_hidden_layers=3, **heads(4, 2), use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1,
        rope_parameters=YARN)),
    "qwen3_window": ("Qwen3Config", "new", dict(
        num_hidden_layers=3, **heads(4, 2, head_dim=8), use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1,
        tie_word_embeddings=True, rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=1e6))),
    "llama_dynamic": ("LlamaConfig", "older", dict(
        num_hidden_layers=2, **heads(4, 4), max_position_embeddings=16, rope_parameters=dict(THETA, rope_type="dynamic", factor=4.0))),
    "llama_yarn": ("LlamaConfig", "older", dict(
        num_hidden_layers=2, **heads(4, 2), rope_parameters=dict(YARN, attention_factor=0.8, truncate=False))),
}
# Where the angles depend on the longest sequence so far: a batch and a cache give transformers other values than each text alone.
BY_LENGTH = {"phi3_longrope", "llama_dynamic"}
# Cases with adapters: one of each family.
ADAPTED = ["mistral", "gemma2", "gemma3_text", "gemma3", "gpt2", "gpt_neox", "phi3", "olmo2", "olmo3", "smollm3", "granite", "qwen3_moe",
           "qwen2_window", "qwen3_window"]
TRAINED = ["gpt2", "gemma3_text", "gpt_neox"]
FUSED = {"gpt2", "gpt2_inner", "gpt_neox", "gpt_neox_sequential", "phi3", "phi3_longrope"}

deviations = {}


# ---------------------------------------------------------------- float64 all the way

to, float_ = torch.Tensor.to, torch.Tensor.float


def wide_to(self, *places, **more):
    """`.to(torch.float32)` that leaves float64 alone: transformers' casts inside norms."""
    if self.dtype == torch.float64 and (torch.float32 in places or more.get("dtype") == torch.float32):
        places = tuple(place for place in places if place is not torch.float32)
        more = {key: value for key, value in more.items() if key != "dtype"}
        return to(self, *places, **more) if places or more else self
    return to(self, *places, **more)


class Exact:
    """Inside, nothing that is float64 becomes float32. (Softmax is make_golden's.)"""

    def __enter__(self):
        torch.Tensor.to = wide_to
        torch.Tensor.float = lambda self, *rest, **more: self if self.dtype == torch.float64 else float_(self, *rest, **more)

    def __exit__(self, *_):
        torch.Tensor.to, torch.Tensor.float = to, float_


# ---------------------------------------------------------------- the parts of a model by their common names

def text_config(config):
    return getattr(config, "text_config", None) or config


def trunk(model):
    model = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    for name in ("transformer", "gpt_neox", "model"):
        if hasattr(model, name):
            inner = getattr(model, name)
            return getattr(inner, "language_model", inner)
    raise AssertionError(type(model))


def layers_of(model):
    base = trunk(model)
    return base.h if hasattr(base, "h") else base.layers


def attention_of(layer):
    return next(getattr(layer, name) for name in ("self_attn", "attention", "attn") if hasattr(layer, name))


def norm_of(model):
    base = trunk(model)
    return next(getattr(base, name) for name in ("norm", "ln_f", "final_layer_norm") if hasattr(base, name))


def fused_of(layer):
    attention = attention_of(layer)
    return next(getattr(attention, name) for name in ("c_attn", "query_key_value", "qkv_proj") if hasattr(attention, name))


def split_fused(name, config, values):
    """q, k and v out of one matrix's output `[.., q + k + v]`."""
    if "neox" in name:
        each = values.unflatten(-1, (config.num_attention_heads, 3, -1))
        return [each[..., part, :].flatten(-2) for part in range(3)]
    width = HIDDEN // config.num_attention_heads
    key = width * getattr(config, "num_key_value_heads", config.num_attention_heads)
    return values.split([HIDDEN, key, key], dim=-1)


# ---------------------------------------------------------------- checkpoints

def random_model(tools, name):
    """Attention far from uniform, no norm weight at one and no bias at zero; every weight one that BF16 holds."""
    kind, _, settings = CASES[name]
    common = dict(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    if kind == "Gemma3Config":
        settings = dict(settings, text_config=transformers.Gemma3TextConfig(**settings["text_config"]),
                        vision_config=transformers.SiglipVisionConfig(**settings["vision_config"]))
        common = {}
    elif kind != "GPT2Config":
        common |= dict(hidden_size=HIDDEN, intermediate_size=INNER, max_position_embeddings=CONTEXT)
    config = getattr(transformers, kind)(**json.loads(json.dumps(common)) | {key: value if hasattr(value, "to_dict") else
                                         json.loads(json.dumps(value)) for key, value in settings.items()}, dtype="bfloat16")
    make = transformers.AutoModelForImageTextToText if kind == "Gemma3Config" else AutoModelForCausalLM
    model = make.from_config(config, dtype=torch.float32, attn_implementation="eager")
    around_zero = "Gemma" in kind
    g = tools.generator("families " + name)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=g)
            last = key.split(".")[-2] if key.count(".") else key
            normed = weight.dim() == 1 and key.endswith("weight")
            if normed and last in ("q_norm", "k_norm"):
                weight.copy_(1.7 - around_zero + 0.3 * noise)
            elif normed:
                weight.copy_(1.0 - around_zero + 0.3 * noise)
            elif key.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif last in ("embed_tokens", "lm_head", "embed_in", "embed_out", "wte", "wpe"):
                # Where embeddings grow on their way in, a tied output would otherwise repeat each token for ever.
                weight.copy_((0.06 if kind == "GraniteConfig" else 0.12 if around_zero else 0.25 if text_config(config).tie_word_embeddings else 0.5) * noise)
            elif last == "gate" and weight.shape[0] < 8:  # a router
                weight.copy_(noise / math.sqrt(HIDDEN) * 2)
            elif last in ("c_attn", "c_proj", "c_fc"):
                noise /= math.sqrt(weight.shape[0])
                if last == "c_attn":
                    noise[:, :2 * HIDDEN] *= 1.8
                weight.copy_(noise)
            else:
                noise /= math.sqrt(weight.shape[-1])
                if last in ("q_proj", "k_proj"):
                    noise *= 1.8
                elif last == "qkv_proj":
                    noise[:-weight.shape[0] // 4] *= 1.8
                elif last == "query_key_value":
                    noise.view(config.num_attention_heads, 3, -1, HIDDEN)[:, :2] *= 1.8
                weight.copy_(noise)
            weight.copy_(weight.bfloat16().float())
    return model


def older_rope(old):
    """`rope_parameters` as transformers 4 spelled it, in each family's own way."""
    rope = old.pop("rope_parameters", None)
    if rope is None:
        return
    if FULL in rope:
        full, sliding = dict(rope[FULL]), dict(rope[SLIDING])
        old["rope_theta"] = full.pop("rope_theta")
        if old["model_type"] == "olmo3":
            assert sliding["rope_theta"] == old["rope_theta"]
        else:
            old["rope_local_base_freq"] = sliding["rope_theta"]
        rope = full
    else:
        rope = dict(rope)
        old["rotary_emb_base" if old["model_type"] == "gpt_neox" else "rope_theta"] = rope.pop("rope_theta")
    part = rope.pop("partial_rotary_factor", None)
    if part is not None:
        old["rotary_pct" if old["model_type"] == "gpt_neox" else "partial_rotary_factor"] = part
    kind = rope.pop("rope_type")
    if kind == "longrope":
        rope.pop("original_max_position_embeddings")  # stands outside
    # `type` is the first name of `rope_type`.
    old["rope_scaling"] = None if kind == "default" else {older_key(old, kind): kind, **rope}


def older_key(old, kind):
    """`type` is the first name of `rope_type`, which families with two embeddings never used."""
    return "type" if kind in ("linear", "dynamic", "longrope") and old["model_type"] != "gemma3_text" else "rope_type"


def older_spelling(config):
    """A config.json of transformers 5 as transformers 4 and the models' makers wrote it."""
    old = dict(config, transformers_version="4.51.0", torch_dtype=config.get("dtype", "bfloat16"))
    if "text_config" in old:
        old["text_config"] = older_spelling(old["text_config"])
        del old["text_config"]["transformers_version"]
        del old["dtype"]
        return dict(sorted(old.items()))
    older_rope(old)
    kind = old["model_type"]
    for key in DERIVED:
        if (key, kind) != ("layer_types", "olmo3"):
            old.pop(key, None)
    if kind == "gemma2":
        old |= dict(hidden_act=old["hidden_activation"], cache_implementation="hybrid", sliding_window_size=WINDOW)
        old.pop("use_bidirectional_attention", None)
    if kind == "gemma3_text":
        pattern = config["layer_types"].index(FULL) + 1
        assert config["layer_types"] == [FULL if (i + 1) % pattern == 0 else SLIDING for i in range(len(config["layer_types"]))]
        old |= dict(sliding_window_pattern=pattern, cache_implementation="hybrid")
        old.pop("use_bidirectional_attention", None)
    if kind == "qwen3_moe":
        old["num_experts"] = old.pop("num_local_experts")
    if kind == "qwen2":
        old.pop("head_dim", None)
    if kind == "mistral" and old["head_dim"] * old["num_attention_heads"] == HIDDEN:
        del old["head_dim"]
    if kind == "gpt2":
        for key in ("add_cross_attention", "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "pad_token_id"):
            old.pop(key)
        if old["n_inner"] is None:
            del old["n_inner"]
        old |= dict(n_ctx=old["n_positions"], task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}})
    return dict(sorted(old.items()))


def write_checkpoint(tools, folder, name, model):
    model.to(torch.bfloat16).save_pretrained(folder)
    model.float()
    new = json.loads((folder / "config.json").read_text())
    spellings = {"new": new, "older": older_spelling(new)}
    for which, config in spellings.items():
        tools.write_json(folder / ("config.json" if which == CASES[name][1] else "config.other_spelling.json"), config)


def old_buffers(folder, name):
    """What old files carry beside the weights, by the names that they have there."""
    file = folder / "model.safetensors"
    weights = safetensors.torch.load_file(file)
    layers = range(3)
    if name == "gpt2":  # the hub's own file: no `transformer.` before the names
        weights = {key.removeprefix("transformer."): value for key, value in weights.items()}
        weights |= {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8).tril() for i in layers}
        weights |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in layers}
    elif name == "gpt_neox":
        weights |= {f"gpt_neox.layers.{i}.attention.bias": torch.ones(1, 1, 8, 8).tril().bool() for i in layers}
        weights |= {f"gpt_neox.layers.{i}.attention.masked_bias": torch.tensor(-1e9) for i in layers}
        weights |= {f"gpt_neox.layers.{i}.attention.rotary_emb.inv_freq": torch.ones(2) for i in layers}
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})


# ---------------------------------------------------------------- running transformers

def open_model(folder, dtype=torch.float64):
    kind = json.loads((Path(folder) / "config.json").read_text())["model_type"]
    make = transformers.AutoModelForImageTextToText if kind == "gemma3" else AutoModelForCausalLM
    more = dict(experts_implementation="eager") if kind == "qwen3_moe" else {}
    return make.from_pretrained(folder, dtype=dtype, attn_implementation="eager", **more).eval()


def logits_of(model, ids, **more):
    with Exact():
        return model(input_ids=ids, use_cache=False, **more).logits


def run(name, model, ids, attention_mask=None):
    values, handles = {}, []

    def keep(key):
        return lambda _module, _inputs, output: values.__setitem__(key, output[0] if isinstance(output, tuple) else output)

    layers = layers_of(model)
    for i, layer in enumerate(layers):
        handles.append(attention_of(layer).register_forward_hook(keep(f"self_attn.{i}")))
        handles.append(layer.register_forward_hook(keep(f"hidden.{i}")))
    handles.append(layers[-1].mlp.register_forward_hook(keep(f"mlp.{len(layers) - 1}")))
    handles.append(norm_of(model).register_forward_hook(keep("norm")))
    if name in FUSED:
        handles.append(fused_of(layers[0]).register_forward_hook(keep("fused")))
    try:
        values["logits"] = logits_of(model, ids, attention_mask=attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    if name in FUSED:
        parts = split_fused(name, text_config(model.config), values.pop("fused"))
        values |= {f"{key}.0": part for key, part in zip(("q_proj", "k_proj", "v_proj"), parts)}
    return values


def random_examples(tools, name, lengths=LENGTHS):
    g = tools.generator("ids of families " + name)
    return [torch.cat([torch.tensor([1]), torch.randint(4, VOCAB - 8, (n - 1,), generator=g)]) for n in lengths]


@torch.no_grad()
def run_each(name, model, examples):
    runs = [run(name, model, ids[None]) for ids in examples]
    return {key: torch.cat([one[key][0] for one in runs]) for key in runs[0]}


@torch.no_grad()
def run_batch(tools, name, model, examples):
    """In one right-padded batch, as transformers is used."""
    mask = tools.pad([torch.ones_like(ids) for ids in examples])
    values = run(name, model, tools.pad(examples), attention_mask=mask)
    return {key: torch.cat([rows[:len(ids)] for rows, ids in zip(value, examples)]) for key, value in values.items()}


def write_case(tools, folder, name):
    examples = random_examples(tools, name)
    values = run_each(name, open_model(folder), examples)
    plain = open_model(folder, torch.float32)
    plain = run_each(name, plain, examples) if name in BY_LENGTH else run_batch(tools, name, plain, examples)
    each = {key: tools.deviation(plain[key], values[key]) for key in values}
    deviations[name] = max(each.values())
    assert deviations[name] < FLOAT32_TOLERANCE, (name, each)
    tools.write_tensors(folder / "golden.safetensors", tools.f32(dict(
        input_ids=torch.cat(examples), lengths=torch.tensor([len(ids) for ids in examples]), **values)))
    with tempfile.TemporaryDirectory() as other:
        shutil.copytree(folder, other, dirs_exist_ok=True)
        shutil.copy(folder / "config.other_spelling.json", Path(other) / "config.json")
        again = run_each(name, open_model(other), examples)
        assert torch.equal(again["logits"], values["logits"]), (name, "the spellings mean different models")
    if name in ("mistral", "gemma2", "gemma3_text", "gemma3", "phi3", "olmo3", "qwen2_window", "qwen3_window", "smollm3_window"):
        # Windows must be seen: without them the long example is another.
        with tempfile.TemporaryDirectory() as other:
            shutil.copytree(folder, other, dirs_exist_ok=True)
            config = json.loads((folder / "config.json").read_text())
            config.get("text_config", config)["sliding_window"] = CONTEXT
            tools.write_json(Path(other) / "config.json", config)
            wide = run_each(name, open_model(other), examples)["logits"]
            assert tools.deviation(wide, values["logits"]) > 1e-3, (name, "the window is not seen")


@torch.no_grad()
def write_generation(tools, folder, name):
    """Greedy, one prompt at a time, a full forward per token, not stopping at the end-of-sequence token."""
    model = open_model(folder)
    g = tools.generator("prompts of families " + name)
    for attempt in range(100):
        prompts = [torch.randint(4, VOCAB - 8, (n,), generator=g).tolist() for n in LENGTHS]
        tokens, gaps = [], []
        for prompt in prompts:
            ids = list(prompt)
            for _ in range(NEW_TOKENS):
                logits = logits_of(model, torch.tensor([ids]))[0, -1]
                best = logits.topk(2)
                gaps.append(((best.values[0] - best.values[1]) / logits.abs().max()).item())
                ids.append(best.indices[0].item())
            tokens.append(ids[len(prompt):])
        if min(gaps) > 1e-3 and sum(len(set(row)) for row in tokens) > 6:
            break
    else:
        raise AssertionError((name, tokens, sorted(gaps)[:5]))
    if name not in BY_LENGTH:
        with Exact():
            cached = [model.generate(torch.tensor([p]), do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None,
                                     pad_token_id=0)[0, len(p):].tolist() for p in prompts]
        assert cached == tokens, name
    tools.write_json(folder / "generation.json", dict(prompts=prompts, tokens=tokens))


# ---------------------------------------------------------------- adapters

# What PEFT takes where no module is named, where it knows the family.
LORA = {"gpt2": ["c_attn"], "gpt_neox": ["query_key_value"], "phi3": ["qkv_proj"]}
DORA = {"gpt2": ["c_attn", "c_fc", "mlp.c_proj"], "gpt_neox": ["query_key_value", "dense", "dense_h_to_4h"],
        "phi3": ["qkv_proj", "o_proj", "gate_up_proj"], "qwen3_moe": ["q_proj", "o_proj"]}
IA3 = {"gpt2": (["c_attn", "mlp.c_proj"], ["mlp.c_proj"]), "gpt_neox": (["query_key_value", "dense_4h_to_h"], ["dense_4h_to_h"]),
       "phi3": (["qkv_proj", "down_proj"], ["down_proj"]), "qwen3_moe": (["q_proj", "o_proj"], ["o_proj"])}


def adapter_configs(name):
    kind = dict(task_type="CAUSAL_LM")
    targets, feedforward = IA3.get(name, (["k_proj", "v_proj", "down_proj"], ["down_proj"]))
    # The image tower has modules of the same names: those of the text model are meant, by a regular expression as PEFT advises.
    only = (lambda names: r".*language_model\..*\.(" + "|".join(names) + ")") if name == "gemma3" else list
    configs = {
        "lora": peft.LoraConfig(r=2, lora_alpha=3, target_modules=only(LORA.get(name, ["q_proj", "v_proj"])), **kind),
        "dora": peft.LoraConfig(r=2, lora_alpha=4, use_dora=True, target_modules=only(DORA.get(name, ["q_proj", "o_proj", "up_proj"])), **kind),
        "ia3": peft.IA3Config(target_modules=only(targets), feedforward_modules=only(feedforward), **kind),
        "prompt": peft.PromptTuningConfig(num_virtual_tokens=3, **kind),
        "prefix": peft.PrefixTuningConfig(num_virtual_tokens=3, **kind),
        "cartridge": peft.CartridgeConfig(num_virtual_tokens=5, num_frozen_tokens=1, **kind),
    }
    if name in LORA:  # what else PEFT's users write for these
        configs["lora_all"] = peft.LoraConfig(r=1, lora_alpha=2, target_modules="all-linear", use_rslora=True, **kind)
    return configs


def disturb(model, g):
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            noise = torch.randn(weight.shape, generator=g)
            if "lora_A" in key:
                weight.copy_(noise / weight.shape[1] ** 0.5)
            elif "lora_B" in key:
                weight.copy_(0.3 * noise)
            elif "magnitude" in key:
                weight.copy_(weight * (1 + 0.2 * noise))
            elif "ia3_l" in key:
                weight.copy_(1 + 0.4 * noise)
            else:
                weight.copy_(0.7 * noise)


ADAPTER_LENGTHS = [3, 11]
CARTRIDGE_TEXT = 8  # tokens, of which the first five become virtual ones


@torch.no_grad()
def adapted_logits(folder, adapter, examples, dtype):
    model = peft.PeftModel.from_pretrained(open_model(folder, dtype), adapter).to(dtype).eval()
    with Exact():
        return torch.cat([model(input_ids=ids[None]).logits[0, -len(ids):] for ids in examples])


def write_adapter(tools, folder, name, case, config):
    place = folder / "adapters" / case
    torch.manual_seed(0)
    model = peft.get_peft_model(open_model(folder, torch.float32), config)
    if case == "cartridge":
        text, = random_examples(tools, f"text of the cartridge of {name}", [CARTRIDGE_TEXT])
        with torch.no_grad(), Exact(), model.disable_adapter():
            cache = model(input_ids=text[None], use_cache=True).past_key_values
        peft.initialize_kv_prefix_from_past_key_values(model, past_key_values=cache)
    else:
        disturb(model, tools.generator(f"adapter {case} of families {name}"))
    model.peft_config["default"].base_model_name_or_path = "../.."
    model.save_pretrained(place)
    (place / "README.md").unlink()
    written = json.loads((place / "adapter_config.json").read_text())
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(written.get(key), list):
            written[key].sort()
    tools.write_json(place / "adapter_config.json", written)
    examples = random_examples(tools, f"adapter {case} of {name}", ADAPTER_LENGTHS)
    values = adapted_logits(folder, place, examples, torch.float64)
    plain = adapted_logits(folder, place, examples, torch.float32)
    worst = tools.deviation(plain, values)
    deviations[f"{name} {case}"] = worst
    assert worst < FLOAT32_TOLERANCE, (name, case, worst)
    base = run_each(name, open_model(folder), examples)["logits"]
    assert tools.deviation(values, base) > 0.02, (name, case, "the adapter does next to nothing")
    tools.write_tensors(place / "golden.safetensors", tools.f32(dict(
        input_ids=torch.cat(examples), lengths=torch.tensor(ADAPTER_LENGTHS), logits=values)))


# ---------------------------------------------------------------- all of it

def tokenizer():
    """Bytes of English, merged as often as the vocabulary allows on the words of the task `sentiment`."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<|pad|>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\n?\p{Lu}\p{Ll}+:| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|[\r\n]+|\s+"), "isolated"),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = tokenizers.decoders.ByteLevel()
    rows = [json.loads(line) for line in (ROOT / "data/tasks/sentiment.jsonl").read_text().splitlines()]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=VOCAB - 8, special_tokens=["<|pad|>", "<|bos|>", "<|eos|>"], show_progress=False)
    made.train_from_iterator([f"{row['query']} {row['gold']}\n\n" for row in rows], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<|bos|> $A", pair="<|bos|> $A $B", special_tokens=[("<|bos|>", 1)])
    return made.to_str(pretty=True) + "\n"


def write_one(tools, root, name):
    folder = root / "families" / name
    model = random_model(tools, name)
    write_checkpoint(tools, folder, name, model)
    old_buffers(folder, name)
    write_case(tools, folder, name)
    write_generation(tools, folder, name)
    if name in ADAPTED:
        for case, config in adapter_configs(name).items():
            write_adapter(tools, folder, name, case, config)
    if name in TRAINED:
        golden_family_steps.write(tools, sys.modules[__name__], folder, name)
        golden_self_distillation.write(tools, sys.modules[__name__], folder, name)


def write(root, tools, names=None):
    warnings.filterwarnings("ignore", "Position ids are not supported|You should probably TRAIN")
    warnings.simplefilter("ignore")
    (root / "families").mkdir(parents=True, exist_ok=True)
    (root / "families" / "tokenizer.json").write_text(tokenizer())
    for name in names or CASES:
        write_one(tools, root, name)


def main():
    import make_golden as tools
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with tests/golden/families instead of writing")
    parser.add_argument("names", nargs="*", help="only these cases")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    goal = tools.GOLDEN / "families"
    with tempfile.TemporaryDirectory() as made:
        write(Path(made), tools, arguments.names)
        made = Path(made) / "families"
        if arguments.check:
            different = tools.differences(made, goal)
            sys.exit("different: " + ", ".join(different) if different else 0)
        for entry in made.iterdir() if arguments.names else [made]:
            place = goal / entry.name if arguments.names else goal
            if entry.is_dir():
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(entry, place)
            else:
                shutil.copy(entry, place)
    for what, value in deviations.items():
        print(f"{what:32} float32 run deviates by {value:.1e}")
    print(f"{sum(p.stat().st_size for p in goal.rglob('*') if p.is_file()) / 1e6:.2f} MB in {goal}")


if __name__ == "__main__":
    main()
