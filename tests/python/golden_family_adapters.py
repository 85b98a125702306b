"""Adapters saved by PEFT on every family: `families/<case>/adapters`. Called by golden_families.py, which hands over its helpers."""

import json

import peft
import torch

import golden_adapters

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


ADAPTER_LENGTHS = [3, 11]
CARTRIDGE_TEXT = 8  # tokens, of which the first five become virtual ones


@torch.no_grad()
def adapted_logits(families, folder, adapter, examples, dtype):
    model = peft.PeftModel.from_pretrained(families.open_model(folder, dtype), adapter).to(dtype).eval()
    with families.Exact():
        return torch.cat([model(input_ids=ids[None]).logits[0, -len(ids):] for ids in examples])


def write_adapter(tools, families, folder, name, case, config):
    place = folder / "adapters" / case
    torch.manual_seed(0)
    model = peft.get_peft_model(families.open_model(folder, torch.float32), config)
    if case == "cartridge":
        text, = families.random_examples(tools, f"text of the cartridge of {name}", [CARTRIDGE_TEXT])
        with torch.no_grad(), families.Exact(), model.disable_adapter():
            cache = model(input_ids=text[None], use_cache=True).past_key_values
        peft.initialize_kv_prefix_from_past_key_values(model, past_key_values=cache)
    else:
        golden_adapters.disturb(model, tools.generator(f"adapter {case} of families {name}"), magnitude=0.2)
    model.peft_config["default"].base_model_name_or_path = "../.."
    model.save_pretrained(place)
    (place / "README.md").unlink()
    written = json.loads((place / "adapter_config.json").read_text())
    for key in ("target_modules", "feedforward_modules"):
        if isinstance(written.get(key), list):
            written[key].sort()
    tools.write_json(place / "adapter_config.json", written)
    examples = families.random_examples(tools, f"adapter {case} of {name}", ADAPTER_LENGTHS)
    values = adapted_logits(families, folder, place, examples, torch.float64)
    plain = adapted_logits(families, folder, place, examples, torch.float32)
    worst = tools.deviation(plain, values)
    families.deviations[f"{name} {case}"] = worst
    assert worst < families.FLOAT32_TOLERANCE, (name, case, worst)
    base = families.run_each(name, families.open_model(folder), examples)["logits"]
    assert tools.deviation(values, base) > 0.02, (name, case, "the adapter does next to nothing")
    tools.write_tensors(place / "golden.safetensors", tools.f32(dict(
        input_ids=torch.cat(examples), lengths=torch.tensor(ADAPTER_LENGTHS), logits=values)))


def write(tools, families, folder, name):
    for case, config in adapter_configs(name).items():
        write_adapter(tools, families, folder, name, case, config)
