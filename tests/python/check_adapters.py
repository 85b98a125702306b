"""Opens adapters and merged models that the Rust library wrote, with PEFT and transformers, and compares logits.

    IA2_TEST_PYTHON=target/golden-env/bin/python cargo test --test adapters --test families peft_reads_our -- --nocapture

The test writes the files and calls this script with a manifest: {"prompts": [[id, ...], ...], "cases": [{"name", "checkpoint",
"adapter" (or none), "logits": file of `logits.<prompt>` [token, vocab] in F64}, ...]}. Everything is computed in float64 as in
make_golden.py. An adapter's keys and values must be just those that PEFT itself would save from the model it made of them.
"""

import json
import os
import sys
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import peft
import safetensors.torch
import torch
import transformers

from golden_families import Exact, open_model
from golden_family_cases import text_config
from make_golden import deviation

TOLERANCE = 1e-5


def complaints(model, adapter):
    """Keys of the file that PEFT did not take, that it misses, or that it took differently."""
    saved = safetensors.torch.load_file(os.path.join(adapter, "adapter_model.safetensors"))
    taken = peft.get_peft_model_state_dict(model)
    wrong = [f"missing {key}" for key in taken.keys() - saved.keys()]
    wrong += [f"unexpected {key}" for key in saved.keys() - taken.keys()]
    wrong += [f"different {key}" for key in taken.keys() & saved.keys()
              if saved[key].shape != taken[key].shape or not torch.equal(saved[key].double(), taken[key].double())]
    return wrong


@torch.no_grad()
def check(case, prompts):
    wrong = []
    # Both are asked for in the kind of the files: a config that says otherwise would show.
    stored = json.load(open(os.path.join(case["checkpoint"], "config.json")))
    model = open_model(case["checkpoint"])
    if case.get("adapter"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = peft.PeftModel.from_pretrained(model, case["adapter"])
        wrong += [str(w.message) for w in caught if "missing" in str(w.message).lower() or "unexpected" in str(w.message).lower()]
        wrong += complaints(model, case["adapter"])
        model = model.double().eval()
    else:
        config = transformers.AutoConfig.from_pretrained(case["checkpoint"])
        dtype = config.dtype or text_config(config).dtype
        wrong += [] if dtype == torch.float32 else [f"config says {dtype}, {stored}"]
    logits = safetensors.torch.load_file(case["logits"])
    worst = 0.0
    for row, ids in enumerate(prompts):
        with Exact():
            theirs = model(input_ids=torch.tensor([ids])).logits[0, -len(ids):]
        worst = max(worst, deviation(logits[f"logits.{row}"], theirs))
    if not worst < TOLERANCE:
        wrong.append(f"logits differ by {worst:.1e}")
    return worst, wrong


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    manifest = json.load(open(sys.argv[1]))
    failed, largest = 0, 0.0
    for case in manifest["cases"]:
        worst, wrong = check(case, manifest["prompts"])
        largest = max(largest, worst)
        failed += bool(wrong)
        print(f"{case['name']:50} logits differ by {worst:.1e}{'; WRONG: ' + '; '.join(wrong) if wrong else ''}")
    print(f"{len(manifest['cases'])} cases, {failed} wrong, largest difference {largest:.1e}")
    sys.exit(1 if failed or not manifest["cases"] else 0)


if __name__ == "__main__":
    main()
