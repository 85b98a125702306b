"""The Hugging Face transformers + PEFT side of `cargo xtask bench`: one case per process, one JSON line on stdout.

    python tests/python/bench_hf.py CHECKPOINT WORK.json CASE [--threads 2] [--repeats 5] [--warmup 1]
                                                              [--batch N] [--limit N]
    python tests/python/bench_hf.py --list      # the names of the cases

float32, CPU. WORK.json is written by the Rust side, which does the same work:

    { "collect":  [[id, ...], ...],              prompts: 7 demonstrations + query each
      "train":    { "prompts":   [[id, ...], ...],
                    "responses": [[id, ...], ...] },   at least 32 ids each, the case takes the first 1 or 32
      "evaluate": { "demonstrations": [id, ...],       the shared prefix, begin-of-sequence included
                    "queries": [[id, ...], ...] } }    what follows it, so prompt = demonstrations + query

Cases (<T> is 1 or 32 response tokens):
    collect-<T>-best      greedy generation of T tokens (end-of-sequence does not stop it) for all prompts in left-padded
                          batches with the KV cache; hooks keep the self_attn outputs of the position that predicts
    collect-<T>-authors   as the paper's code: one prompt at a time, for every token one full forward, no cache kept
    ia2-<T>-best, sft-<T>-best        LoRA r 8 on q, k, o; one right-padded batch of 4; the output layer sees the
                          response positions only (SFT) or nothing (IA2, whose inputs also end before the last token)
    ia2-<T>-authors, sft-<T>-authors  as the paper's code: 4 examples one by one, whole logits, gradients accumulated
    evaluate-best         the demonstrations run once, their cache expanded to batches of queries sorted by length
    evaluate-plain        whole prompts, no shared cache; logits of the last position only
    evaluate-authors      as the paper's code: whole prompts in left-padded batches of 8, logits of every position

One repeat is one pass over the work: all prompts, all queries, or one Adam step per 4 training examples. IA2's targets
are zeros (their values do not change the cost). --limit takes only the first N prompts, examples or queries: the slow
ways need not see all of them. --batch sets the prompts or queries per batch of collect-<T>-best (8), evaluate-best (10),
evaluate-plain (1) and evaluate-authors (8); on a CPU larger batches were measured to take the same time and more memory.

The line: case, samples_per_s (samples / median seconds), samples, seconds (each repeat), cpu_seconds (processor time of all
threads per repeat, which a busy machine disturbs least), peak_mb (largest resident memory from loading the model on),
baseline_mb (resident before loading, after the imports), threads, batch, versions, and `check`, for comparison with the Rust
side: collect: the generated ids and the Frobenius norm of the activations; training: mean loss of the first batch before any
step (B is zero then: the base model's); evaluate: the most probable id per query.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time
import warnings

CASES = ([f"{work}-{tokens}-{way}" for work in ("collect", "ia2", "sft") for tokens in (1, 32)
          for way in ("best", "authors")] + ["evaluate-best", "evaluate-plain", "evaluate-authors"])
TRAIN_BATCH, RANK, RATE = 4, 8, 1e-4


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("work", nargs="?")
    parser.add_argument("case", nargs="?", choices=CASES, metavar="CASE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--kind", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        print("\n".join(CASES))
        sys.exit()
    if args.case is None:
        parser.error("CHECKPOINT, WORK.json and CASE are needed")
    args.batch = args.batch or {"evaluate-best": 10, "evaluate-plain": 1}.get(args.case, 8)
    return args


# threads must be set before torch is imported, and --list should not import it
ARGS = arguments()
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(ARGS.threads)
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from torch.nn import functional
from transformers import AutoModelForCausalLM, DynamicCache

TRAINS = ARGS.case.startswith(("ia2", "sft"))
if TRAINS:
    import peft  # only where it is used: its import is part of the baseline


# ---------------------------------------------------------------- memory

def memory_mb(field):
    """VmRSS (now) or VmHWM (peak) of this process."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def reset_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


# ---------------------------------------------------------------- pieces

def chunks(rows, size):
    return [rows[i:i + size] for i in range(0, len(rows), size)]


def padded(rows, side):
    """Lists of ids as [example, token] and the attention mask."""
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        at = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids[i, at] = torch.tensor(row)
        mask[i, at] = 1
    return ids, mask


def hook_self_attention(layers, keep):
    """keep(layer, output [example, token, hidden]) at every forward."""
    for i, layer in enumerate(layers):
        layer.self_attn.register_forward_hook(lambda _m, _in, out, i=i: keep(i, out[0]))


# ---------------------------------------------------------------- collecting target activations

def collect_best(model, prompts, tokens):
    rows = []  # per layer and forward: [example, hidden] at the last position
    hook_self_attention(model.model.layers, lambda i, out: rows.append(out[:, -1].clone()))
    # length is fixed by max_new_tokens alone; no logits processor is needed to hold end-of-sequence back
    model.generation_config.eos_token_id = None
    layers = model.config.num_hidden_layers

    def once():
        activations, generated = [], []
        for batch in chunks(prompts, ARGS.batch):
            ids, mask = padded(batch, "left")
            rows.clear()
            out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens, pad_token_id=0)
            # forwards come one token after the other, layers inside: [token, layer] -> [example, layer, token, hidden]
            steps = torch.stack(rows).view(tokens, layers, len(batch), -1)
            activations.append(steps.permute(2, 1, 0, 3).contiguous())
            generated += out[:, ids.shape[1]:].tolist()
        return dict(tokens=generated, norm=torch.cat(activations).float().norm().item())
    return once


def collect_authors(model, prompts, tokens):
    outputs = {}
    hook_self_attention(model.model.layers, outputs.__setitem__)

    def once():
        activations, generated = [], []
        for prompt in prompts:
            ids, steps = torch.tensor([prompt]), []
            for _ in range(tokens):
                out = model(input_ids=ids, attention_mask=torch.ones_like(ids))
                steps.append(torch.stack([outputs[i][0, -1].clone() for i in sorted(outputs)]).unsqueeze(1))
                ids = torch.cat([ids, out.logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            activations.append(torch.cat(steps, dim=1))  # [layer, token, hidden]
            generated.append(ids[0, len(prompt):].tolist())
        return dict(tokens=generated, norm=torch.stack(activations).float().norm().item())
    return once


# ---------------------------------------------------------------- training steps

def training(model, prompts, responses, tokens, objective, way):
    torch.manual_seed(0)
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=["q_proj", "k_proj", "o_proj"], task_type="CAUSAL_LM"))
    model.train()
    base = model.get_base_model()
    layers, hidden = base.config.num_hidden_layers, base.config.hidden_size
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
    outputs = {}
    if objective == "ia2":
        hook_self_attention(base.model.layers, outputs.__setitem__)
    examples = [(p, r[:tokens], torch.zeros(layers, tokens, hidden)) for p, r in zip(prompts, responses)]

    def batched_loss(batch):
        if objective == "ia2":
            ids, mask = padded([p + r[:-1] for p, r, _ in batch], "right")
        else:
            ids, mask = padded([p + r for p, r, _ in batch], "right")
        last = base.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        rows = torch.arange(len(batch))[:, None]
        places = torch.tensor([len(p) - 1 for p, _, _ in batch])[:, None] + torch.arange(tokens)
        if objective == "ia2":
            got = torch.stack([outputs[i][rows, places] for i in range(layers)], dim=1).float()
            # one length for all, so the mean over the batch is the mean of the examples' means
            return functional.mse_loss(got, torch.stack([target for _, _, target in batch])) * layers
        logits = base.lm_head(last[rows, places])
        # in f32, as transformers' own loss is
        return functional.cross_entropy(logits.float().flatten(0, 1), torch.tensor([r for _, r, _ in batch]).flatten())

    def example_loss(prompt, response, target):
        ids = torch.tensor([prompt + response])
        if objective == "ia2":
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
            at = slice(len(prompt) - 1, len(prompt) - 1 + tokens)
            return functional.mse_loss(torch.stack([outputs[i][0, at] for i in sorted(outputs)]).float(), target) * layers
        labels = torch.full_like(ids, -100)
        labels[0, -tokens:] = ids[0, -tokens:]
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss

    def once():
        first = None
        for batch in chunks(examples, TRAIN_BATCH):
            optimiser.zero_grad()
            if way == "best":
                loss = batched_loss(batch)
                loss.backward()
                value = loss.item()
            else:
                value = 0.0
                for example in batch:
                    loss = example_loss(*example) / len(batch)
                    loss.backward()
                    value += loss.item()
            optimiser.step()
            first = value if first is None else first
        return dict(loss=first)
    return once


# ---------------------------------------------------------------- evaluating with demonstrations

def evaluate_best(model, demonstrations, queries):
    order = sorted(range(len(queries)), key=lambda i: len(queries[i]))

    def once():
        cache = DynamicCache(config=model.config)
        model.model(input_ids=torch.tensor([demonstrations]), past_key_values=cache, use_cache=True)
        best = {}
        for chunk in chunks(order, ARGS.batch):
            ids, mask = padded([queries[i] for i in chunk], "right")
            shared = copy.deepcopy(cache)
            for layer in shared.layers:  # a view: the only copy is the one that appends the query
                layer.keys = layer.keys.expand(len(chunk), -1, -1, -1)
                layer.values = layer.values.expand(len(chunk), -1, -1, -1)
            mask = torch.cat([torch.ones(len(chunk), len(demonstrations), dtype=mask.dtype), mask], dim=1)
            hidden = model.model(input_ids=ids, attention_mask=mask, past_key_values=shared).last_hidden_state
            last = hidden[torch.arange(len(chunk)), torch.tensor([len(queries[i]) - 1 for i in chunk])]
            best |= zip(chunk, model.lm_head(last).float().log_softmax(-1).argmax(-1).tolist())
        return dict(best=[best[i] for i in range(len(queries))])
    return once


def evaluate_whole(model, demonstrations, queries, way):
    order = list(range(len(queries)))
    if way == "plain":
        order.sort(key=lambda i: len(queries[i]))

    def once():
        best = {}
        for chunk in chunks(order, ARGS.batch):
            ids, mask = padded([demonstrations + queries[i] for i in chunk], "left")
            positions = (mask.cumsum(-1) - 1).clamp_min(0)
            economy = dict(use_cache=False, logits_to_keep=1) if way == "plain" else {}
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, **economy).logits[:, -1]
            best |= zip(chunk, logits.float().log_softmax(-1).argmax(-1).tolist())
        return dict(best=[best[i] for i in range(len(queries))])
    return once


# ---------------------------------------------------------------- one case

def prepare(model, work):
    """The function that does one repeat, and how many samples that is."""
    if ARGS.case.startswith("evaluate"):
        way = ARGS.case.split("-")[1]
        demonstrations, queries = work["evaluate"]["demonstrations"], work["evaluate"]["queries"][:ARGS.limit]
        if way == "best":
            return evaluate_best(model, demonstrations, queries), len(queries)
        return evaluate_whole(model, demonstrations, queries, way), len(queries)
    kind, tokens, way = ARGS.case.split("-")
    if kind == "collect":
        prompts = work["collect"][:ARGS.limit]
        return (collect_best if way == "best" else collect_authors)(model, prompts, int(tokens)), len(prompts)
    prompts, responses = (work["train"][key][:ARGS.limit] for key in ("prompts", "responses"))
    if len(prompts) != len(responses) or any(len(r) < int(tokens) for r in responses):
        sys.exit(f"train: {len(prompts)} prompts need as many responses, of {tokens} tokens or more each")
    return training(model, prompts, responses, int(tokens), kind, way), len(prompts)


def batch_size():
    """Examples in one forward pass."""
    if TRAINS:
        return 1 if ARGS.case.endswith("authors") else TRAIN_BATCH
    return 1 if ARGS.case.startswith("collect") and ARGS.case.endswith("authors") else ARGS.batch


def main():
    torch.set_num_threads(ARGS.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # PEFT calling a name transformers is about to drop
    with open(ARGS.work) as file:
        work = json.load(file)
    baseline = memory_mb("VmRSS")
    reset_peak()

    model = AutoModelForCausalLM.from_pretrained(ARGS.checkpoint, dtype=dict(f32=torch.float32, bf16=torch.bfloat16)[ARGS.kind]).eval()
    with torch.inference_mode(not TRAINS):
        once, samples = prepare(model, work)
        # a case that trains must be checked at its very first step, which is in the warm-up if there is one
        seconds, check, before = [], None, time.process_time()
        for repeat in range(ARGS.warmup + ARGS.repeats):
            if repeat == ARGS.warmup:
                before = time.process_time()
            start = time.perf_counter()
            result = once()
            if repeat >= ARGS.warmup:
                seconds.append(time.perf_counter() - start)
            check = check or result
        cpu = (time.process_time() - before) / ARGS.repeats

    versions = dict(torch=torch.__version__, transformers=transformers.__version__)
    if TRAINS:
        versions["peft"] = peft.__version__
    print(json.dumps(dict(
        case=ARGS.case, samples_per_s=samples / statistics.median(seconds), samples=samples,
        seconds=[round(s, 6) for s in seconds], cpu_seconds=round(cpu, 4), peak_mb=round(memory_mb("VmHWM"), 1),
        baseline_mb=round(baseline, 1), threads=ARGS.threads, batch=batch_size(), versions=versions, check=check)))


if __name__ == "__main__":
    main()
