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

import golden_family_adapters
import golden_family_steps
import golden_self_distillation
from golden_family_cases import CASES, CONTEXT, HIDDEN, INNER, VOCAB, older_spelling, text_config

LENGTHS = [3, 10, 21]
NEW_TOKENS = 10
FLOAT32_TOLERANCE = 5e-6
ROOT = Path(__file__).resolve().parents[2]

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


def write_checkpoint(tools, folder, name, model):
    model.to(torch.bfloat16).save_pretrained(folder)
    model.float()
    new = json.loads((folder / "config.json").read_text())
    spellings = {"new": new, "older": older_spelling(new)}
    for which, config in spellings.items():
        tools.write_json(folder / ("config.json" if which == CASES[name][1] else "config.other_spelling.json"), config)


def old_buffers(folder, name):
    """What old files carry next to the weights, by the names that they have there."""
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
        golden_family_adapters.write(tools, sys.modules[__name__], folder, name)
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
