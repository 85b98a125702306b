"""Writes tests/golden: tiny random checkpoints and what Python computes with them.

    pip install -r tests/python/requirements.txt
    OMP_NUM_THREADS=1 python tests/python/make_golden.py            # rewrites tests/golden
    OMP_NUM_THREADS=1 python tests/python/make_golden.py --check    # compares with what is there, writes nothing

The reference is Hugging Face transformers (eager attention) and PEFT, run in float64, one example
at a time and without padding or cache, so that no value depends on how a batch is padded or a cache
is kept. transformers casts to float32 inside RMS norm and softmax even then; these two casts are
lifted, its float32 rotary angles are left as they are. Every value is also compared with
the plain float32 run of transformers, in one right-padded batch, before it is written.
"""

import argparse
import filecmp
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

import golden_evidence
import golden_families
import golden_gguf
import golden_objectives
import peft
import safetensors.torch
import torch
import torchmetrics
import transformers
import golden_adapters
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

import golden_hooks
import golden_optimizers
import golden_rotary
import golden_sampling
import golden_training

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
VOCAB = 64
LENGTHS = [5, 17, 40]
NEW_TOKENS = 24
# The largest deviation (max |a-b| / max |b| per tensor) we allow transformers' own float32 run.
FLOAT32_TOLERANCE = 5e-6

LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0,
                   high_freq_factor=4.0, original_max_position_embeddings=32)
DEFAULT_ROPE = dict(rope_type="default", rope_theta=10000.0)
QWEN_ROPE = dict(rope_type="default", rope_theta=1000000.0)

# name -> (config class, spelling of config.json, settings). Head counts are query heads / key-value heads.
CASES = {
    "llama_full": (LlamaConfig, "new", dict(
        hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        tie_word_embeddings=False, rms_norm_eps=1e-5, rope_parameters=DEFAULT_ROPE)),
    "llama_grouped_tied": (LlamaConfig, "older", dict(
        hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
        tie_word_embeddings=True, rope_parameters=DEFAULT_ROPE)),
    # 8 rotary pairs of wavelength 6.3, 14, 30, 64, ...: the first is kept, two are blended, the rest divided.
    "llama_multi_query_llama3": (LlamaConfig, "older", dict(
        hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        tie_word_embeddings=False, rope_parameters=LLAMA3_ROPE, eos_token_id=[2, 3])),
    "llama_linear": (LlamaConfig, "older", dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        tie_word_embeddings=False, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0))),
    # Also the one Llama whose head_dim is not hidden / heads, and an epsilon large enough to be seen.
    "llama_biases": (LlamaConfig, "new", dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, attention_bias=True, mlp_bias=True, tie_word_embeddings=False, rms_norm_eps=1e-2,
        rope_parameters=DEFAULT_ROPE)),
    "qwen2_grouped": (Qwen2Config, "older", dict(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        tie_word_embeddings=False, rope_parameters=QWEN_ROPE, bos_token_id=1, eos_token_id=2)),
    "qwen2_multi_query_tied": (Qwen2Config, "new", dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        tie_word_embeddings=True, rope_parameters=QWEN_ROPE, bos_token_id=1, eos_token_id=2)),
    "qwen3_grouped_tied": (Qwen3Config, "new", dict(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, tie_word_embeddings=True, rope_parameters=QWEN_ROPE, bos_token_id=1, eos_token_id=2)),
    "qwen3_multi_query": (Qwen3Config, "older", dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
        head_dim=8, tie_word_embeddings=False, rope_parameters=QWEN_ROPE, bos_token_id=1, eos_token_id=2)),
}
# Copies of one of the above: name -> (original, dtype, shards).
COPIES = {
    "qwen3_sharded": ("qwen3_multi_query", torch.float32, 2),
    "llama_bf16": ("llama_grouped_tied", torch.bfloat16, 1),
    "qwen3_f16": ("qwen3_grouped_tied", torch.float16, 1),
}
WITH_ATTENTION = {"llama_grouped_tied", "qwen3_grouped_tied"}
WITH_GENERATION = ["llama_grouped_tied", "qwen3_multi_query"]
WITH_HOOKS = ["llama_grouped_tied", "qwen3_grouped_tied"]
WITH_TRAINING = ["llama_grouped_tied", "qwen3_grouped_tied"]

deviations = {}  # what -> deviation of the float32 run, for the README


# ---------------------------------------------------------------- checkpoints

def generator(text):
    """A random generator seeded by a name, so that adding a case leaves the others as they are."""
    return torch.Generator().manual_seed(int.from_bytes(text.encode(), "little") % (2**63))


def random_model(name):
    """A float32 model whose attention is far from uniform, with no norm weight at one and no bias at zero."""
    config_class, _, settings = CASES[name]
    config = config_class(vocab_size=VOCAB, max_position_embeddings=128, dtype="float32", **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    g = generator(name)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=g)
            if key.endswith(("q_norm.weight", "k_norm.weight")):
                weight.copy_(1.5 + 0.3 * noise)  # larger: these alone decide how sharp Qwen3's attention is
            elif key.endswith("norm.weight"):
                weight.copy_(1 + 0.3 * noise)
            elif key.endswith(".bias"):
                weight.copy_(0.3 * noise)
            elif "embed_tokens" in key or "lm_head" in key:
                weight.copy_(0.5 * noise)
            else:
                gain = 1.6 if "q_proj" in key or "k_proj" in key else 1.0
                weight.copy_(gain * noise / math.sqrt(weight.shape[1]))
    return model


def older_spelling(config):
    """A config.json of transformers 5 as transformers 4 and the models' makers wrote it."""
    old = dict(config, transformers_version="4.51.0", torch_dtype=config["dtype"])
    rope = dict(old.pop("rope_parameters"))
    kind = rope.pop("rope_type")
    old["rope_theta"] = rope.pop("rope_theta")
    # `type` is the first name of `rope_type`; the linear kind is as old as that.
    type_key = "type" if kind == "linear" else "rope_type"
    old["rope_scaling"] = None if kind == "default" else {type_key: kind, **rope}
    for key in ("dtype", "layer_types"):
        old.pop(key, None)
    if old["model_type"] == "llama" and old["head_dim"] * old["num_attention_heads"] == old["hidden_size"]:
        del old["head_dim"]
    if old["model_type"] == "qwen2":
        old["sliding_window"] = 16  # as Qwen2.5 has it: a window is named, `use_sliding_window` is false
    return dict(sorted(old.items()))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_checkpoint(folder, model, spelling, shards=1):
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(folder, max_shard_size=size * 3 // 5 if shards == 2 else "1GB")
    assert len(list(folder.glob("*.safetensors"))) == shards
    new = json.loads((folder / "config.json").read_text())
    spellings = {"new": new, "older": older_spelling(new)}
    for which, config in spellings.items():
        write_json(folder / ("config.json" if which == spelling else "config.other_spelling.json"), config)


# ---------------------------------------------------------------- running transformers

def norm_in_float64(self, hidden):
    return self.weight * (hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


softmax = functional.softmax


def softmax_in_float64(x, dim=None, dtype=None, **rest):
    return softmax(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype, **rest)


functional.softmax = softmax_in_float64


def open_model(folder, dtype=torch.float64):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    if dtype == torch.float64:
        for module in model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = norm_in_float64.__get__(module)
    return model


def trunk(model):
    """The decoder below the output layer, through PEFT's wrapper or without it."""
    return model.get_base_model().model if isinstance(model, peft.PeftModel) else model.model


def run(model, ids, attention_mask=None, wants_attention=False):
    """One forward pass of `ids` [example, token], as the named values of golden.safetensors."""
    values, handles = {}, []

    def keep(name):
        # self_attn returns (output, attention pattern), everything else one tensor
        return lambda _module, _inputs, output: values.__setitem__(
            name, output[0] if isinstance(output, tuple) else output)

    base = trunk(model)
    for i, layer in enumerate(base.layers):
        handles.append(layer.self_attn.register_forward_hook(keep(f"self_attn.{i}")))
        handles.append(layer.register_forward_hook(keep(f"hidden.{i}")))
    handles.append(base.norm.register_forward_hook(keep("norm")))
    try:
        out = model(input_ids=ids, attention_mask=attention_mask, use_cache=False, output_attentions=wants_attention)
    finally:
        for handle in handles:
            handle.remove()
    values["logits"] = out.logits
    if wants_attention:
        values |= {f"attn.{i}": pattern for i, pattern in enumerate(out.attentions)}
    return values


def pad(rows, length=None):
    """[token, ...] tensors of different lengths as one [example, token, ...] tensor, zero where padded."""
    length = length or max(len(row) for row in rows)
    out = torch.zeros(len(rows), length, *rows[0].shape[1:], dtype=rows[0].dtype)
    for i, row in enumerate(rows):
        out[i, :len(row)] = row
    return out


def pad_attention(rows):
    """[head, query, key] patterns as [example, head, query, key]."""
    length = max(row.shape[-1] for row in rows)
    return torch.stack([functional.pad(row, (0, length - row.shape[-1]) * 2) for row in rows])


def random_examples(name, lengths=LENGTHS):
    g = generator("ids of " + name)
    return [torch.cat([torch.tensor([1]), torch.randint(4, VOCAB, (n - 1,), generator=g)]) for n in lengths]


@torch.no_grad()
def run_ragged(model, examples, wants_attention=False):
    """Each example alone, so nothing can leak from padding; then padded together with zeros."""
    runs = [run(model, ids[None], wants_attention=wants_attention) for ids in examples]
    return {key: (pad_attention if key.startswith("attn.") else pad)([one[key][0] for one in runs]) for key in runs[0]}


@torch.no_grad()
def run_batch(model, examples, wants_attention=False):
    """The same in one right-padded batch with an attention mask: how transformers is used in practice."""
    mask = pad([torch.ones_like(ids) for ids in examples])
    values = run(model, pad(examples), attention_mask=mask, wants_attention=wants_attention)
    return {key: value * (mask[:, None, :, None] if key.startswith("attn.") else mask[:, :, None])
            for key, value in values.items()}


def deviation(a, b):
    """max |a-b| / max |b|, the measure of every parity test."""
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def write_tensors(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    # clone: safetensors refuses tensors that share storage, as slices do
    safetensors.torch.save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, path)


def f32(tensors):
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


# ---------------------------------------------------------------- one folder each

def write_model_case(root, name, folder_dtype=torch.float32):
    folder = root / name
    examples = random_examples(name)
    values = run_ragged(open_model(folder), examples, wants_attention=True)
    plain = run_batch(open_model(folder, torch.float32), examples, wants_attention=True)
    worst = max(deviation(plain[key], values[key]) for key in values)
    assert worst < FLOAT32_TOLERANCE, (name, worst)
    deviations[name] = worst

    # A model whose attention is flat would hide mistakes in rotary embedding and scaling.
    patterns = {key: value for key, value in values.items() if key.startswith("attn.")}
    for key, pattern in patterns.items():
        last = pattern[-1, :, -1].clamp_min(1e-30)
        entropy = -(last * last.log()).sum(-1).mean() / math.log(LENGTHS[-1])
        assert entropy < 0.85, (name, key, entropy)
        if name not in WITH_ATTENTION:
            del values[key]

    golden = dict(input_ids=pad(examples), lengths=torch.tensor(LENGTHS), **values)
    if folder_dtype != torch.float32:
        golden["logits_native"] = run_ragged(open_model(folder, folder_dtype), examples)["logits"]
        deviations[name + " (native)"] = deviation(golden["logits_native"], values["logits"])
    write_tensors(folder / "golden.safetensors", f32(golden))

    # Both spellings of the configuration must mean the same model.
    with tempfile.TemporaryDirectory() as other:
        shutil.copytree(folder, other, dirs_exist_ok=True)
        shutil.copy(folder / "config.other_spelling.json", Path(other) / "config.json")
        again = run_ragged(open_model(other), examples)
        assert torch.equal(again["logits"], values["logits"]), name


@torch.no_grad()
def write_generation(root, name):
    """Greedy, one prompt at a time, a full forward per token, not stopping at the end-of-sequence token."""
    model = open_model(root / name)
    g = generator("prompts of " + name)
    while True:  # until no two best logits are so close that float32 might choose the other
        prompts = [torch.randint(4, VOCAB, (n,), generator=g).tolist() for n in LENGTHS]
        tokens, gaps = [], []
        for prompt in prompts:
            ids = list(prompt)
            for _ in range(NEW_TOKENS):
                best = model(torch.tensor([ids])).logits[0, -1].topk(2)
                gaps.append((best.values[0] - best.values[1]).item())
                ids.append(best.indices[0].item())
            tokens.append(ids[len(prompt):])
        if min(gaps) > 2e-3 and all(len(set(row)) > 3 for row in tokens):
            break
    cached = [model.generate(torch.tensor([p]), do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None,
                             pad_token_id=0)[0, len(p):].tolist() for p in prompts]
    assert cached == tokens, name
    write_json(root / name / "generation.json",
               dict(prompts=prompts, tokens=tokens, smallest_gap_of_two_best_logits=float(f"{min(gaps):.3g}")))


# ---------------------------------------------------------------- all of it

def readme():
    rows = []
    for name, (config_class, spelling, settings) in CASES.items():
        c = config_class(vocab_size=VOCAB, max_position_embeddings=128, **settings)
        head_dim = getattr(c, "head_dim", c.hidden_size // c.num_attention_heads)
        cells = [f"`{name}`", c.model_type, f"{c.num_attention_heads} / {c.num_key_value_heads}", head_dim, c.hidden_size,
                 c.num_hidden_layers, c.rope_parameters["rope_type"], "tied" if c.tie_word_embeddings else "untied",
                 spelling, f"{math.ceil(deviations[name] * 1e7)}e-7"]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    names = lambda which: ", ".join(f"`{name}`" for name in sorted(which))
    return (Path(__file__).parent / "golden_readme.md").read_text().format(
        rows="\n".join(rows), python=".".join(map(str, sys.version_info[:2])), torch=torch.__version__.split("+")[0],
        transformers=transformers.__version__, peft=peft.__version__, torchmetrics=torchmetrics.__version__,
        bf16=f"{deviations['llama_bf16 (native)']:.0e}", f16=f"{deviations['qwen3_f16 (native)']:.0e}",
        vocab=VOCAB, lengths=LENGTHS, new=NEW_TOKENS, rank=golden_training.RANK, alpha=golden_training.ALPHA,
        prompts=golden_training.PROMPTS, responses=golden_training.RESPONSES,
        hooks=names(WITH_HOOKS), training=names(WITH_TRAINING), generation=names(WITH_GENERATION),
        attention=names(WITH_ATTENTION))


def write_all(root):
    tools = sys.modules[__name__]
    for name in CASES:
        write_checkpoint(root / name, random_model(name), CASES[name][1])
        write_model_case(root, name)
    for name, (original, dtype, shards) in COPIES.items():
        model = open_model(root / original, dtype)
        write_checkpoint(root / name, model, CASES[original][1], shards)
        if shards == 1:
            write_model_case(root, name, dtype)
        else:  # the same weights: the original's golden.safetensors holds
            ids = random_examples(original)
            assert torch.equal(run_ragged(open_model(root / name), ids)["logits"],
                               run_ragged(open_model(root / original), ids)["logits"])
    for name in WITH_GENERATION:
        write_generation(root, name)
    for name in WITH_HOOKS:
        golden_hooks.write(tools, root, name)
    for name in WITH_TRAINING:
        golden_training.write(tools, root, name)
        golden_objectives.write(tools, root, name)
    golden_adapters.write(root, tools)
    for name in WITH_TRAINING:
        golden_adapters.write_steps(root, tools, name, golden_objectives.rotary_in_float64)
    golden_optimizers.write(tools, root, WITH_TRAINING)
    golden_rotary.write(root / "rotary.safetensors", write_tensors)
    golden_sampling.write(root / "sampling.json")
    golden_evidence.write(root)
    golden_gguf.write(root, tools)
    golden_families.write(root, tools)
    (root / "README.md").write_text(readme())


def differences(a, b):
    """Paths that are in one folder only, or whose bytes differ."""
    paths = {p.relative_to(root) for root in (a, b) for p in root.rglob("*") if p.is_file()}
    return sorted(str(p) for p in paths
                  if not ((a / p).exists() and (b / p).exists() and filecmp.cmp(a / p, b / p, shallow=False)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with tests/golden instead of writing")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # PEFT calling a name transformers is about to drop
    warnings.filterwarnings("ignore", "Could not find a config file")  # the adapter names its base by a relative path
    with tempfile.TemporaryDirectory() as made:
        write_all(Path(made))
        shutil.copytree(GOLDEN / "vectors", Path(made) / "vectors")  # golden_vectors.py's, which stay
        if check:
            different = differences(Path(made), GOLDEN)
            sys.exit("different: " + ", ".join(different) if different else 0)
        # only now, so that a failure leaves the old files
        shutil.rmtree(GOLDEN, ignore_errors=True)
        shutil.copytree(made, GOLDEN)
    for what, value in deviations.items():
        print(f"{what:32} float32 run deviates by {value:.1e}")
    print(f"{sum(p.stat().st_size for p in GOLDEN.rglob('*') if p.is_file()) / 1e6:.2f} MB in {GOLDEN}")


if __name__ == "__main__":
    main()
