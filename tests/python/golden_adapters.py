"""Writes tests/golden/adapters: adapters saved by PEFT and the logits PEFT computes with them. Run by make_golden.py.

As everywhere in the golden files, logits are computed in float64, one example at a time. Outputs of prompt tuning hold the
virtual tokens first; they are cut off, so that logits [example, token, vocab] belong to the real tokens of every kind.
"""

import json
import warnings

import peft
import safetensors.torch
import torch

import golden_training

CHECKPOINTS = ["llama_grouped_tied", "qwen3_grouped_tied", "llama_biases"]
LENGTHS = [4, 9, 17]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora(**settings):
    return peft.LoraConfig(**(dict(r=4, lora_alpha=6, target_modules=ALL) | settings), task_type="CAUSAL_LM")


# name -> (settings, kind the file is stored in, adapter name); what only some checkpoints have is named there
CASES = {
    "lora_all_sites": (lambda: lora(), torch.float32, "default"),
    "lora_rs": (lambda: lora(use_rslora=True, target_modules=["q_proj", "down_proj"]), torch.float32, "default"),
    "lora_patterns": (lambda: lora(
        target_modules=["q_proj", "o_proj", "up_proj"], layers_to_transform=[1], layers_pattern="layers",
        rank_pattern={"o_proj": 2, r".*\.q_p[a-z]+": 3, "layers.1.self_attn.q_proj": 1},
        alpha_pattern={"(up|down)_proj": 5, "model.layers.1.self_attn.o_proj": 3}, lora_dropout=0.25), torch.float32, "default"),
    "lora_regex": (lambda: lora(target_modules=r"model\.layers\.(0|2)\.(mlp\.gate|self_attn\.(q|v))_proj", r=2),
                   torch.float32, "default"),
    "lora_all_linear": (lambda: lora(target_modules="all-linear", exclude_modules=["v_proj", "mlp.up_proj"], r=1),
                        torch.float32, "default"),
    "lora_bf16": (lambda: lora(target_modules=["q_proj", "k_proj", "o_proj"]), torch.bfloat16, "default"),
    "lora_f16": (lambda: lora(target_modules=["v_proj"]), torch.float16, "default"),
    "lora_named": (lambda: lora(target_modules=["k_proj"]), torch.float32, "other"),
    "dora": (lambda: lora(use_dora=True, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], rank_pattern={"o_proj": 2}),
             torch.float32, "default"),
    "ia3": (lambda: peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"],
                                   task_type="CAUSAL_LM"), torch.float32, "default"),
    "ia3_authors": (lambda: peft.IA3Config(target_modules=["q_proj", "k_proj", "o_proj"],
                                           feedforward_modules=["q_proj", "k_proj", "o_proj"], task_type="CAUSAL_LM"),
                    torch.float32, "default"),
    "prompt": (lambda: peft.PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM"), torch.float32, "default"),
    "prefix": (lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"), torch.float32, "default"),
    "prefix_projection": (lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=10,
                                                          task_type="CAUSAL_LM"), torch.bfloat16, "default"),
    "cartridge": (lambda: peft.CartridgeConfig(num_virtual_tokens=6, num_frozen_tokens=2, task_type="CAUSAL_LM"), torch.float32, "default"),
}
CARTRIDGE_TEXT = 9  # tokens, of which the first six become virtual ones


def disturb(model, g, magnitude=0.3):
    """Values for every trained parameter that leave no part of the adapter without effect."""
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
                weight.copy_(weight * (1 + magnitude * noise))
            elif "ia3_l" in key:
                weight.copy_(1 + 0.4 * noise)
            else:
                weight.copy_(0.7 * noise)


def write_case(root, tools, checkpoint, case):
    make, dtype, name = CASES[case]
    folder = root / "adapters" / checkpoint / case
    torch.manual_seed(0)
    model = peft.get_peft_model(tools.open_model(root / checkpoint, torch.float32), make(), adapter_name=name)
    more = {}
    if case == "cartridge":
        more["text"], = tools.random_examples(f"text of the cartridge of {checkpoint}", [CARTRIDGE_TEXT])
        with torch.no_grad(), model.disable_adapter():
            cache = model(input_ids=more["text"][None], use_cache=True).past_key_values
        peft.initialize_kv_prefix_from_past_key_values(model, past_key_values=cache)
    else:
        disturb(model, tools.generator(f"adapter {case} of {checkpoint}"))
    model.peft_config[name].base_model_name_or_path = "../../../" + checkpoint
    model.save_pretrained(folder)
    (folder / "README.md").unlink()  # PEFT's empty model card
    if name != "default":
        assert not (folder / "adapter_config.json").exists()
        folder = folder / name
    config = json.loads((folder / "adapter_config.json").read_text())
    for key in ("target_modules", "feedforward_modules", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key].sort()  # a Python set: its order changes from run to run
    tools.write_json(folder / "adapter_config.json", config)
    if dtype != torch.float32:
        file = folder / "adapter_model.safetensors"
        rounded = {key: value.to(dtype) for key, value in safetensors.torch.load_file(file).items()}
        safetensors.torch.save_file(rounded, file, metadata={"format": "pt"})

    examples = tools.random_examples(f"adapter {case} of {checkpoint}", LENGTHS)
    values = logits(tools, root / checkpoint, folder, examples, torch.float64)
    plain = logits(tools, root / checkpoint, folder, examples, torch.float32)
    worst = tools.deviation(plain, values)
    assert worst < tools.FLOAT32_TOLERANCE, (checkpoint, case, worst)
    base = tools.run_ragged(tools.open_model(root / checkpoint), examples)["logits"]
    assert tools.deviation(values, base) > 0.02, (checkpoint, case, "the adapter does next to nothing")
    tools.write_tensors(root / "adapters" / checkpoint / f"{case}.safetensors", tools.f32(dict(
        input_ids=tools.pad(examples), lengths=torch.tensor(LENGTHS), logits=values, **more)))


@torch.no_grad()
def logits(tools, checkpoint, folder, examples, dtype):
    """PEFT's logits with the saved adapter, one example at a time, at the real tokens."""
    model = peft.PeftModel.from_pretrained(tools.open_model(checkpoint, dtype), folder).to(dtype).eval()
    # .to() may have undone nothing: every parameter is in the kind asked for
    assert all(p.dtype == dtype for p in model.parameters())
    return tools.pad([model(input_ids=ids[None]).logits[0, -len(ids):] for ids in examples])


def write(root, tools):
    warnings.filterwarnings("ignore", "Position ids are not supported|You should probably TRAIN")
    for checkpoint in CHECKPOINTS:
        for case in CASES:
            write_case(root, tools, checkpoint, case)


TRAINED = ["lora_all_sites", "lora_rs", "dora", "ia3", "ia3_authors", "prompt", "prefix", "cartridge"]


def write_steps(root, tools, name, in_float64):
    """training/{name}/steps.safetensors: what five Adam steps of cross-entropy make of each kind of adapter, one example at a time."""
    examples = tools.random_examples("training " + name, [p + r for p, r in zip(golden_training.PROMPTS, golden_training.RESPONSES)])
    golden = {}
    for case in TRAINED:
        folder = root / "adapters" / name / case
        base = in_float64(tools.open_model(root / name))
        base.requires_grad_(False)
        virtual = case in ("prompt", "prefix", "cartridge")  # PEFT opens these for inference alone
        model = peft.PeftModel.from_pretrained(base, folder, is_trainable=not virtual).double().eval()
        if virtual:
            encoder = model.prompt_encoder["default"]
            (encoder.trainable_embedding if case == "cartridge" else encoder.embedding.weight).requires_grad_(True)
        weights = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(weights, lr=golden_training.RATE, betas=(0.9, 0.999), eps=1e-8)
        trajectory = []
        for _ in range(golden_training.STEPS):
            each = []
            for ids, prompt in zip(examples, golden_training.PROMPTS):
                logits = model(input_ids=ids[None]).logits[0, -len(ids):]
                each.append(torch.nn.functional.cross_entropy(logits[prompt - 1:-1], ids[prompt:]))
            loss = torch.stack(each).mean()
            trajectory.append(loss.detach())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert trajectory[-1] < trajectory[0], (name, case, trajectory)
        golden[f"{case}.losses"] = torch.stack(trajectory)
        after = {"prompt_embeddings": encoder.embedding.weight} if virtual else peft.get_peft_model_state_dict(model)
        golden |= {f"{case}.after.{key}": value.detach().clone() for key, value in after.items()}
    tools.write_tensors(root / "training" / name / "steps.safetensors", golden)
