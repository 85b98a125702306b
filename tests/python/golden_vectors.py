"""Writes tests/golden/vectors: task vectors, function vectors, mean-difference steering and calibrated ICL, by transformers and forward hooks.

    cargo test --test vectors -- --ignored                          # writes prompts.json: the tokens of all prompts
    OMP_NUM_THREADS=1 python tests/python/golden_vectors.py         # reads it, writes one file for each family

Everything is the formula itself: one prompt at a time, whole forwards without a cache, float64, one forward per head, layer or strength. Hooks
on the families' own modules read and replace the last token of the query.
"""

import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

GOLDEN = Path(__file__).parent.parent / "golden"
LAYERS = {"gpt2": lambda model: model.transformer.h, "gpt_neox": lambda model: model.gpt_neox.layers,
          "gemma3_text": lambda model: model.model.layers}
OUTPUT = {"gpt2": lambda layer: layer.attn.c_proj, "gpt_neox": lambda layer: layer.attention.dense,
          "gemma3_text": lambda layer: layer.self_attn.o_proj}
STRENGTHS, COUNTS = [0.25, 0.5, 1.0, 2.0, 4.0], [1, 2, 5, 10, 20, 40, 80, 160]


class Reference:
    def __init__(self, family):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            GOLDEN / "families" / family, dtype=torch.float64, attn_implementation="eager").eval()
        self.layers = list(LAYERS[family](self.model))
        self.outputs = [OUTPUT[family](layer) for layer in self.layers]
        config = self.model.config
        self.heads = config.num_attention_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.transposed = family == "gpt2"

    def logits(self, ids, hooks=()):
        handles = [make() for make in hooks]
        try:
            with torch.no_grad():
                return self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()

    def at_layer(self, layer, end, change):
        """`change(stream)` at position `end` of the output of `layer`."""
        def hook(module, inputs, output):
            stream = output[0] if isinstance(output, tuple) else output
            stream = stream.clone()
            stream[0, end] = change(stream[0, end])
            return (stream, *output[1:]) if isinstance(output, tuple) else stream
        return lambda: self.layers[layer].register_forward_hook(hook)

    def at_heads(self, layer, end, change):
        """`change(heads)` at position `end` of what enters the output projection of `layer`."""
        def hook(module, inputs):
            heads = inputs[0].clone()
            heads[0, end] = change(heads[0, end])
            return (heads, *inputs[1:])
        return lambda: self.outputs[layer].register_forward_pre_hook(hook)

    def seen(self, ids, at):
        """The values `[layer, width]` at the last token."""
        values = [None] * len(self.layers)

        def keep(layer):
            def change(value):
                values[layer] = value.clone()
                return value
            return change
        self.logits(ids, [at(layer, len(ids) - 1, keep(layer)) for layer in range(len(self.layers))])
        return torch.stack(values)

    def loss(self, prompt, answer, hooks=()):
        logs = self.logits(prompt + answer[:-1], hooks).log_softmax(-1)
        return -sum(logs[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer))

    def written(self, layer, head, value):
        weight = self.outputs[layer].weight
        weight = weight.T if self.transposed else weight
        return weight[:, head * self.width:(head + 1) * self.width].detach() @ value


def best(losses):
    return min(range(len(losses)), key=lambda place: losses[place])


def case(reference, prompts):
    layers, heads, width = len(reference.layers), reference.heads, reference.width
    shown, test = prompts["shown"], prompts["test"][0]

    def dev_loss(layer, change):
        pairs = zip(prompts["dev"], prompts["dev_golds"])
        losses = [reference.loss(ids, gold, [reference.at_layer(layer, len(ids) - 1, change)]) for ids, gold in pairs]
        return sum(losses) / len(losses)

    def result(losses, hook, **more):
        return {"losses": losses, **more, "logits": reference.logits(test, [hook])[-1].tolist()}

    icl = torch.stack([reference.seen(ids, reference.at_layer) for ids in shown])
    zero = torch.stack([reference.seen(ids, reference.at_layer) for ids in prompts["train"]])
    end = len(test) - 1

    theta = icl.mean(0)
    losses = [dev_loss(layer, lambda stream, layer=layer: theta[layer]) for layer in range(layers)]
    layer = best(losses)
    found = {"task": result(losses, reference.at_layer(layer, end, lambda stream: theta[layer]), layer=layer)}

    difference = (icl - zero).mean(0)
    tried = [(layer, strength) for layer in range(layers) for strength in STRENGTHS]
    losses = [dev_loss(layer, lambda stream, layer=layer, strength=strength: stream + strength * difference[layer])
              for layer, strength in tried]
    layer, strength = tried[best(losses)]
    hook = reference.at_layer(layer, end, lambda stream: stream + strength * difference[layer])
    found["steering"] = result(losses, hook, layer=layer, strength=strength)

    means = torch.stack([reference.seen(ids, reference.at_heads) for ids in shown]).mean(0)
    effects = torch.zeros(layers, heads, dtype=torch.float64)
    for ids, gold in zip(prompts["shuffled"], prompts["telling"]):
        chance = lambda hooks=(): torch.tensor(-reference.loss(ids, gold, hooks)).exp().item()
        before = chance()
        for layer in range(layers):
            for head in range(heads):
                def replaced(value, layer=layer, head=head):
                    value = value.clone()
                    value[head * width:(head + 1) * width] = means[layer, head * width:(head + 1) * width]
                    return value
                effects[layer, head] += (chance([reference.at_heads(layer, len(ids) - 1, replaced)]) - before) / len(prompts["shuffled"])
    order = sorted(range(layers * heads), key=lambda place: -effects.flatten()[place].item())
    counts = [count for count in COUNTS if count <= layers * heads]
    places = [(place // heads, place % heads) for place in order]
    written = [reference.written(layer, head, means[layer, head * width:(head + 1) * width]) for layer, head in places]
    sums = {count: torch.stack(written[:count]).sum(0) for count in counts}
    tried = [(layer, count) for layer in range(layers) for count in counts]
    losses = [dev_loss(layer, lambda stream, count=count: stream + sums[count]) for layer, count in tried]
    layer, count = tried[best(losses)]
    hook = reference.at_layer(layer, end, lambda stream: stream + sums[count])
    found["function"] = result(losses, hook, layer=layer, heads=places[:count], effects=effects.tolist())

    if prompts["labels"]:
        def chances(ids):
            return reference.logits(ids)[-1].softmax(-1)[prompts["labels"]]
        asked = torch.stack([chances(ids) for ids in prompts["icl_test"]])
        asked = asked / asked.sum(1, keepdim=True)
        free = torch.stack([chances(ids) for ids in prompts["content_free"]]).mean(0)
        for name, prior in [("contextual", free / free.sum()), ("batch", asked.mean(0))]:
            divided = asked / prior
            found[name] = (divided / divided.sum(1, keepdim=True)).tolist()
    return found


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: rounded(other) for key, other in value.items()}
    return [rounded(other) for other in value] if isinstance(value, (list, tuple)) else value


def main():
    prompts = json.loads((GOLDEN / "vectors" / "prompts.json").read_text())
    for family in LAYERS:
        reference = Reference(family)
        found = {kind: rounded(case(reference, own)) for kind, own in prompts.items()}
        (GOLDEN / "vectors" / f"{family}.json").write_text(json.dumps(found) + "\n")
        print(family, {kind: {name: (own["layer"], own.get("strength"), own.get("heads")) for name, own in case.items() if isinstance(own, dict)}
                       for kind, case in found.items()})


if __name__ == "__main__":
    main()
