"""Gradients at hook points, and a patched activation: `<checkpoint>/hooks.safetensors`. Called by make_golden.py, which hands over its helpers."""

import torch


def write(tools, root, name):
    """Gradients at every self-attention output, and an activation patched."""
    folder = root / name
    model = tools.open_model(folder)
    config = model.config
    examples = tools.random_examples(name)
    g = tools.generator("hooks of " + name)
    vector = torch.randn(tools.VOCAB, generator=g)

    gradients, scalars = {}, []
    for ids in examples:
        values = tools.run(model, ids[None])
        scalar = values["logits"][0, -1] @ vector.double()
        outputs = [values[f"self_attn.{i}"] for i in range(config.num_hidden_layers)]
        for i, gradient in enumerate(torch.autograd.grad(scalar, outputs)):
            gradients.setdefault(f"gradient.self_attn.{i}", []).append(gradient[0])
        scalars.append(scalar.detach())

    token, replacement = 3, torch.randn(config.hidden_size, generator=g)

    def patch(_module, _inputs, output):
        patched = output[0].clone()
        patched[:, token] = replacement.double()
        return (patched, *output[1:])

    handle = model.model.layers[1].self_attn.register_forward_hook(patch)
    patched = tools.run_ragged(model, examples)["logits"]
    handle.remove()
    assert tools.deviation(patched, tools.run_ragged(model, examples)["logits"]) > 0.01

    tools.write_tensors(folder / "hooks.safetensors", tools.f32({
        "gradient.vector": vector, "gradient.scalar": torch.stack(scalars),
        **{key: tools.pad(rows) for key, rows in gradients.items()},
        "patch.layer": torch.tensor([1]), "patch.token": torch.tensor([token]),
        "patch.value": replacement, "patch.logits": patched,
    }))
