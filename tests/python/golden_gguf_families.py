"""GGUF files of the families whose converter changes more than a name; the rest, and how to run it, are in golden_gguf.py.

A tiny random model of transformers is written as llama.cpp's `convert_hf_to_gguf.py` writes it: the names of tensors are those of the
package `gguf` (`get_tensor_name_map`), matrices are transposed, put in another order or split, and norms raised, as there. Reference values
are of the same model with what the file holds, de-quantised by the package and put back. Where transformers opens such files
(`OPENED`), its own loader must give the same weights, bit for bit, and the values are those of the model that it opened. (It reads few of
the metadata, so that the configuration is given to it.)
"""

import math

import gguf
import numpy
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM

import golden_families as families
from golden_family_cases import FULL, SLIDING, heads

HIDDEN, INNER, CONTEXT, WINDOW = 64, 96, 64, 8
THETA = dict(rope_type="default", rope_theta=10000.0)
# What transformers 5.23 opens.
OPENED = {"gpt2", "gemma2", "gemma3", "phi3", "qwen3moe"}

# name -> (class of the configuration, architecture, settings, how matrices are stored, tokenizer); "" stands for the rest.
CASES = {
    "gpt2": ("GPT2Config", "gpt2", dict(n_embd=HIDDEN, n_head=4, n_layer=2, n_positions=CONTEXT),
             {"": Type.Q8_0, "attn_output": Type.F16, "position_embd": Type.F32}, "gpt-2"),
    "gemma2": ("Gemma2Config", "gemma2", dict(
        num_hidden_layers=3, **heads(4, 2, head_dim=32), sliding_window=WINDOW, query_pre_attn_scalar=32, attn_logit_softcapping=3.0,
        final_logit_softcapping=6.0, rope_parameters=THETA), {"": Type.Q8_0, "attn_v": Type.Q5_1, "ffn_up": Type.Q4_0}, "gemma"),
    # The usual pattern needs six layers to be seen.
    "gemma3": ("Gemma3TextConfig", "gemma3", dict(
        hidden_size=32, intermediate_size=64, num_hidden_layers=7, **heads(2, 1, head_dim=16), sliding_window=WINDOW,
        query_pre_attn_scalar=16, layer_types=[SLIDING] * 5 + [FULL, SLIDING],
        rope_parameters={FULL: dict(rope_type="linear", factor=8.0, rope_theta=1e6), SLIDING: dict(THETA, rope_theta=5000.0)}),
        {"": Type.Q8_0, "token_embd": Type.F16}, "gemma"),
    "gptneox": ("GPTNeoXConfig", "gptneox", dict(
        num_hidden_layers=2, num_attention_heads=4, use_parallel_residual=True,
        rope_parameters=dict(THETA, partial_rotary_factor=0.25)), {"": Type.Q8_0, "attn_qkv": Type.Q5_0}, "olmo"),
    "phi3": ("Phi3Config", "phi3", dict(
        num_hidden_layers=2, **heads(4, 2), sliding_window=WINDOW, original_max_position_embeddings=16, partial_rotary_factor=0.75,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
                             short_factor=[1.0, 1.0, 1.25, 1.25, 1.5, 1.5], long_factor=[2.0, 2.0, 3.0, 3.5, 4.0, 5.0],
                             original_max_position_embeddings=16)), {"": Type.Q8_0, "ffn_up": Type.Q4_1}, "llama"),
    "olmo2": ("Olmo2Config", "olmo2", dict(num_hidden_layers=2, **heads(4, 2), rope_parameters=dict(THETA, rope_theta=500000.0)),
              {"": Type.Q8_0, "ffn_down": Type.Q5_1}, "dbrx"),
    # llama.cpp has one name for it and its predecessor.
    "olmo3": ("Olmo3Config", "olmo2", dict(
        num_hidden_layers=4, **heads(4, 4), sliding_window=WINDOW, layer_types=[SLIDING, FULL, SLIDING, FULL],
        rope_parameters={FULL: dict(rope_type="yarn", rope_theta=500000.0, factor=4.0, original_max_position_embeddings=16, beta_fast=4.0,
                                    beta_slow=1.0, attention_factor=1.1), SLIDING: dict(THETA, rope_theta=500000.0)}),
        {"": Type.Q8_0}, "dbrx"),
    "granite": ("GraniteConfig", "granite", dict(
        num_hidden_layers=2, **heads(4, 2), attention_multiplier=0.125, embedding_multiplier=6.0, residual_multiplier=1.25,
        logits_scaling=4.0, tie_word_embeddings=True, rope_parameters=THETA), {"": Type.Q8_0, "attn_q": Type.Q4_0}, "refact"),
    "smollm3": ("SmolLM3Config", "smollm3", dict(
        num_hidden_layers=4, **heads(4, 1), no_rope_layers=[1, 1, 1, 0], rope_parameters=dict(THETA, rope_theta=2e6)),
        {"": Type.Q8_0}, "smaug-bpe"),
    "qwen3moe": ("Qwen3MoeConfig", "qwen3moe", dict(
        num_hidden_layers=2, **heads(4, 2, head_dim=16), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
        norm_topk_prob=True, rope_parameters=dict(THETA, rope_theta=1e6)),
        {"": Type.Q8_0, "ffn_gate_inp": Type.F32, "ffn_down_exps": Type.Q5_0}, "qwen2"),
}


def permuted(weight, count):
    """llama.cpp's `permute`: the two halves of each head interleaved."""
    shape = weight.shape
    return weight.reshape(count, 2, shape[0] // count // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def halves(weight, count):
    """Its inverse."""
    shape = weight.shape
    return weight.reshape(count, shape[0] // count // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def changes(arch, config, key):
    """What the converter does with a weight, and what undoes it."""
    if arch.startswith("gemma") and key.endswith("norm.weight"):
        return lambda x: x + 1, lambda x: x - 1
    if arch == "gpt2" and key.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        return lambda x: x.T, lambda x: x.T
    if arch == "gptneox" and "query_key_value" in key:
        count = config.num_attention_heads
        return (lambda x: torch.cat(list(x.reshape(count, 3, -1, *x.shape[1:]).unbind(1))).reshape(x.shape),
                lambda x: x.reshape(3, count, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape))
    if arch in ("granite", "smollm3") and key.split(".")[-2] in ("q_proj", "k_proj"):
        count = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
        return lambda x: permuted(x, count), lambda x: halves(x, count)
    return lambda x: x, lambda x: x


def tensors(arch, config, model):
    """(name in the file, key here, which part of it, what the converter does, what undoes it) of every tensor."""
    names = gguf.get_tensor_name_map(next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch), config.num_hidden_layers)
    for key in model.state_dict():
        if key.endswith("experts.gate_up_proj"):
            at = key.removesuffix("gate_up_proj")
            for part, module in enumerate(("gate_proj", "up_proj")):
                yield (names.get_name(f"{at}{module}") + ".weight", key, part, *changes(arch, config, key))
        elif key.endswith("experts.down_proj"):
            yield (names.get_name(key) + ".weight", key, None, *changes(arch, config, key))
        elif key != "lm_head.weight" or not config.tie_word_embeddings:
            name, ending = key.rsplit(".", 1)
            yield (f"{names.get_name(name)}.{ending}", key, None, *changes(arch, config, key))


def metadata(writer, arch, config):
    """As the converter writes them."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if arch == "gpt2":
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    rope = config.rope_parameters
    full = rope.get(FULL, rope)
    writer.add_feed_forward_length(config.intermediate_size)
    if arch == "gptneox":
        width = config.hidden_size // config.num_attention_heads
        writer.add_rope_dimension_count(int(full["partial_rotary_factor"] * width))
        writer.add_parallel_residual(config.use_parallel_residual)
        writer.add_layer_norm_eps(config.layer_norm_eps)
        return
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(full["rope_theta"])
    if arch in ("gemma2", "gemma3", "qwen3moe"):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        writer.add_sliding_window(config.sliding_window)
    if arch == "gemma3":
        writer.add_rope_freq_base_swa(rope[SLIDING]["rope_theta"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
        writer.add_sliding_window(config.sliding_window)
    if arch == "olmo2" and FULL in rope:
        writer.add_rope_freq_base_swa(rope[SLIDING]["rope_theta"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(full["factor"])
        writer.add_rope_scaling_orig_ctx_len(full["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_attn_factor(full["attention_factor"])
        writer.add_rope_scaling_yarn_beta_fast(full["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(full["beta_slow"])
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern([kind == SLIDING for kind in config.layer_types])
    if arch == "phi3":
        width = config.hidden_size // config.num_attention_heads
        scale, original = config.max_position_embeddings / 16, 16
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_dimension_count(int(0.75 * width))
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        writer.add_sliding_window(config.sliding_window)
        for name in ("long", "short"):
            writer.add_tensor(f"rope_factors_{name}.weight", numpy.array(full[f"{name}_factor"], dtype=numpy.float32))
    if arch in ("granite", "smollm3"):
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    if arch == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if arch == "qwen3moe":
        writer.add_expert_count(config.num_local_experts if hasattr(config, "num_local_experts") else config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


def how(arch):
    """How transformers computes: plainly."""
    return dict(attn_implementation="eager") | (dict(experts_implementation="eager") if arch == "qwen3moe" else {})


def random_model(golden, name, words):
    kind, arch, settings, _, _ = CASES[name]
    common = dict(vocab_size=words, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    if kind != "GPT2Config":
        common |= dict(hidden_size=HIDDEN, intermediate_size=INNER, max_position_embeddings=CONTEXT)
    config = getattr(transformers, kind)(**common | settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **how(arch)).eval()
    g = golden.generator("gguf " + name)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            last = key.split(".")[-2]
            noise = torch.randn(weight.shape, generator=g)
            if weight.dim() == 1 and key.endswith("weight"):
                weight.copy_((1.4 if last in ("q_norm", "k_norm") else 1.0) - arch.startswith("gemma") + 0.3 * noise)
            elif weight.dim() == 1:
                weight.copy_(0.3 * noise)
            elif last in ("embed_tokens", "lm_head", "embed_in", "embed_out", "wte", "wpe"):
                weight.copy_((0.06 if arch == "granite" else 0.12 if arch.startswith("gemma") else 0.4) * noise)
            else:
                # Conv1D holds `[in, out]`.
                gain = 1.8 if last in ("q_proj", "k_proj", "qkv_proj", "query_key_value", "c_attn", "gate") else 1.0
                weight.copy_(gain * noise / math.sqrt(weight.shape[0 if arch == "gpt2" else -1]))
    return model


def write_model(golden, vocabulary, path, name):
    """The file, and the model with what it holds."""
    _, arch, _, kinds, tokens = CASES[name]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(name)
    writer.add_type("model")
    words = vocabulary.write(writer, tokens)
    model = random_model(golden, name, words)
    config = model.config
    metadata(writer, arch, config)
    state, held = model.state_dict(), {}
    for own, key, part, change, undo in tensors(arch, config, model):
        values = state[key] if part is None else state[key].chunk(2, 1)[part]
        values = change(values).contiguous().numpy()
        kind = kinds.get(own.split(".")[-2], kinds[""]) if values.ndim > 1 else Type.F32
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(own, data, raw_dtype=kind)
        back = undo(torch.from_numpy(gguf.quants.dequantize(data, kind).reshape(values.shape).copy()))
        held[key] = back if part is None else torch.cat([held[key], back], 1) if part else back
    if config.tie_word_embeddings:
        held["lm_head.weight"] = held[next(key for key in state if key.endswith(("embed_tokens.weight", "wte.weight")))]
    model.load_state_dict(held)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def opened(folder, file, arch, model):
    """What transformers' own loader makes of the file, which must be `model`."""
    if arch not in OPENED:
        return model
    theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, config=model.config, dtype=torch.float32, **how(arch)).eval()
    ours = model.state_dict()
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, ours[key]), (file, key)
    return theirs


@torch.no_grad()
def values(model, examples):
    """Logits and the first layer's attention, each example alone."""
    out = {"logits": [], "self_attn": []}
    hook = families.attention_of(families.layers_of(model)[0]).register_forward_hook(lambda _module, _inputs, output: out["self_attn"].append(output[0][0]))
    for ids in examples:
        out["logits"].append(families.logits_of(model, ids[None])[0])
    hook.remove()
    return out


def write(golden, folder, vocabulary, lengths):
    for name, (_, arch, settings, _, _) in CASES.items():
        file = f"{name}.gguf"
        model = opened(folder, file, arch, write_model(golden, vocabulary, folder / file, name))
        generator = golden.generator("ids of gguf " + name)
        examples = [torch.cat([torch.tensor([1]), torch.randint(4, model.config.vocab_size, (n - 1,), generator=generator)]) for n in lengths]
        plain = values(model, examples)
        wide = values(model.double(), examples)
        worst = max(golden.deviation(golden.pad(plain[key]), golden.pad(wide[key])) for key in plain)
        assert worst < 5e-6, (name, worst)
        if "sliding_window" in settings:
            whole = AutoModelForCausalLM.from_config(type(model.config)(**model.config.to_dict() | dict(sliding_window=CONTEXT)),
                                                     dtype=torch.float64, attn_implementation="eager").eval()
            whole.load_state_dict(model.state_dict())
            assert golden.deviation(golden.pad(values(whole, examples)["logits"]), golden.pad(wide["logits"])) > 1e-3, (name, "no window is seen")
        golden.write_tensors(folder / f"{name}.safetensors", golden.f32(
            dict(input_ids=golden.pad(examples), lengths=torch.tensor(lengths), **{key: golden.pad(value) for key, value in wide.items()})))
