"""GGUF files: random blocks of every type, tiny random models of every architecture, and what Python makes of them.

Part of make_golden.py, which writes them to tests/golden/gguf; `python tests/python/golden_gguf.py` writes these files alone.
`golden_gguf.py --smollm2 FILE` writes tests/data/smollm2.json from the real model that `cargo xtask model smollm2` fetches.

Blocks are de-quantised by the package `gguf`. Models are opened by transformers (`from_pretrained(folder, gguf_file=...)`), which
de-quantises with that package, too. In three places transformers 5.23 does less than the metadata say, and is helped here:
`rope_freqs.weight` is not read (the configuration is given the same scaling); of the pre-tokenisers it knows only some, neither composes
characters for Qwen2 and GPT-NeoX nor leaves Llama 3's whole tokens whole (the published tokenizers do); and the SentencePiece kind does not put its
space before a text that begins with one (SentencePiece, llama.cpp and the published tokenizers do). `plain` in the files of tokens counts
the texts of which its own tokenizer, not helped, gives the same ids.
"""

import argparse
import json
import math
import pathlib
import shutil
import tempfile

import gguf
import numpy
import torch
from gguf import GGMLQuantizationType as Type
from tokenizers import Regex, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

import golden_gguf_families as families
from golden_gguf_texts import ROOT, byte_vocabulary, gemma_vocabulary, sentence_vocabulary, texts

LENGTHS = [5, 17, 40]
# Of how many texts the ids are kept where it is not 160.
MANY = {"gpt2": 1000, "gemma2": 1000}
# Where the f16 numbers of a block stand.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.Q2_K: [80, 82], Type.Q3_K: [108],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}
PLAIN = [Type.F32, Type.F16, Type.BF16]


# ---------------------------------------------------------------- blocks

def random_blocks(rng, kind, count, halves=None):
    """Random bytes whose f16 numbers are finite: `halves`, or of every size down to the smallest."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (count, size), dtype=numpy.uint8)
    for place in HALVES[kind]:
        numbers = halves if halves is not None else rng.normal(size=count) * 10.0 ** rng.integers(-7, 3, count)
        blocks[:, place:place + 2] = numpy.asarray(numbers, dtype=numpy.float16).reshape(-1, 1).view(numpy.uint8)
    return blocks


def write_blocks(path, write_tensors):
    rng = numpy.random.default_rng(12)
    tensors = {}
    for kind in PLAIN:
        size = gguf.GGML_QUANT_SIZES[kind][1]
        bytes_ = rng.integers(0, 256, 64 * size, dtype=numpy.uint8)
        values = gguf.quants.dequantize(bytes_.copy(), kind)
        # Without what is no number, which nothing here opens.
        keep = numpy.isfinite(values)
        tensors[f"{kind.name}.bytes"] = bytes_.reshape(64, size)[keep]
        tensors[f"{kind.name}.values"] = values[keep]
    for kind in HALVES:
        count = 16 if gguf.GGML_QUANT_SIZES[kind][0] == 32 else 6
        blocks = random_blocks(rng, kind, count)
        tensors[f"{kind.name}.bytes"] = blocks
        tensors[f"{kind.name}.values"] = gguf.quants.dequantize(blocks, kind)
    write_tensors(path, {name: torch.from_numpy(numpy.ascontiguousarray(value)) for name, value in tensors.items()})


# ---------------------------------------------------------------- models

# Settings of a tiny model; `kinds` says how a matrix is stored, by the end of its name ("" for the rest).
MODELS = {
    # Rows in pairs, an output layer of its own, SentencePiece.
    "llama": dict(
        arch="llama", hidden=64, inner=96, heads=4, kv_heads=2, head_dim=16, layers=2, tied=False, theta=10000.0, epsilon=1e-5,
        kinds={"": Type.Q8_0, "attn_q": Type.Q4_1, "ffn_down": Type.Q5_0, "token_embd": Type.F16, "output": Type.Q8_0}, tokens="llama"),
    # Biases, tied.
    "qwen2": dict(
        arch="qwen2", hidden=64, inner=96, heads=4, kv_heads=2, head_dim=16, layers=2, tied=True, theta=1000000.0, epsilon=1e-6,
        kinds={"": Type.Q4_0, "attn_k": Type.Q5_1, "ffn_up": Type.BF16, "token_embd": Type.Q8_0}, tokens="qwen2"),
    # Norms of query and key, a width of heads that does not follow; the types with large blocks.
    "qwen3": dict(
        arch="qwen3", hidden=256, inner=256, heads=4, kv_heads=2, head_dim=128, layers=1, tied=True, theta=1000000.0, epsilon=1e-6,
        kinds={"": Type.Q4_K, "attn_k": Type.Q5_K, "attn_v": Type.Q6_K, "attn_output": Type.Q3_K, "ffn_gate": Type.Q2_K,
               "ffn_down": Type.Q6_K, "token_embd": Type.Q5_K}, tokens=None),
    # Llama 3.1's rotary factors, biases everywhere (the rows of q's and k's stand in pairs, too), plain bf16.
    "llama3": dict(
        arch="llama", hidden=32, inner=48, heads=2, kv_heads=1, head_dim=16, layers=2, tied=False, theta=10000.0, epsilon=1e-5, biases=True,
        factor=8.0, kinds={"": Type.BF16}, tokens="llama-bpe"),
}


def permuted(weight, heads):
    """As llama.cpp's converter writes q and k of Llama: the two halves of each head interleaved."""
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def rope_factors(case):
    """The converter's `generate_extra_tensors` for `rope_type` llama3 with Llama 3.1's other numbers."""
    dim, factor, low, high, context = case["head_dim"], case["factor"], 1.0, 4.0, 8192
    freqs = 1.0 / (case["theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    factors = []
    for freq in freqs:
        wavelength = 2 * math.pi / freq
        if wavelength < context / high:
            factors.append(1)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return numpy.array(factors, dtype=numpy.float32)


class Vocabulary:
    def __init__(self):
        self.bytes, self.sentences, self.gemma = byte_vocabulary(330), sentence_vocabulary(160), gemma_vocabulary(160)

    def write(self, writer, kind):
        if kind is None:  # a family with one pre-tokeniser, in a file that does not name it
            kind = ""
        pieces = kind in ("llama", "gemma")
        tokens, types, last = self.sentences if kind == "llama" else self.gemma if kind == "gemma" else self.bytes
        writer.add_tokenizer_model("llama" if pieces else "gpt2")
        if kind not in ("", "llama"):
            writer.add_tokenizer_pre("default" if pieces else kind)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        if kind == "llama":
            writer.add_token_scores(last)
            writer.add_bos_token_id(1)
            writer.add_eos_token_id(2)
            writer.add_unk_token_id(0)
        elif kind == "gemma":
            writer.add_token_scores(last)
            writer.add_bos_token_id(2)
            writer.add_eos_token_id(1)
            writer.add_unk_token_id(3)
            writer.add_pad_token_id(0)
            writer.add_add_bos_token(True)
            writer.add_add_eos_token(False)
            writer.add_add_space_prefix(False)
        else:
            writer.add_token_merges(last)
            writer.add_bos_token_id(tokens.index("<|im_start|>"))
            writer.add_eos_token_id(tokens.index("<|im_end|>"))
            writer.add_pad_token_id(tokens.index("<|endoftext|>"))
            writer.add_add_bos_token(kind == "llama-bpe")
        writer.add_chat_template("{{ messages[0]['content'] }}")
        return len(tokens)


def write_model(path, name, vocabulary):
    case = MODELS[name]
    rng = numpy.random.default_rng(int.from_bytes(name.encode(), "little"))
    writer = gguf.GGUFWriter(path, case["arch"])
    writer.add_name(name)
    writer.add_type("model")
    writer.add_block_count(case["layers"])
    writer.add_context_length(128)
    writer.add_embedding_length(case["hidden"])
    writer.add_feed_forward_length(case["inner"])
    writer.add_head_count(case["heads"])
    writer.add_head_count_kv(case["kv_heads"])
    writer.add_key_length(case["head_dim"])
    writer.add_value_length(case["head_dim"])
    writer.add_rope_freq_base(case["theta"])
    writer.add_layer_norm_rms_eps(case["epsilon"])
    if case["arch"] == "llama":
        writer.add_rope_dimension_count(case["head_dim"])
    words = vocabulary.write(writer, case["tokens"])

    def stored(name):
        return next((kind for end, kind in case["kinds"].items() if end and name.split(".")[-2] == end), case["kinds"][""])

    def matrix(name, rows, columns, spread, heads=None):
        kind = stored(name)
        if kind in HALVES and gguf.GGML_QUANT_SIZES[kind][0] == 256:  # which the package reads and does not write
            count = rows * columns // 256
            data = random_blocks(rng, kind, count, numpy.ones(count))
            scale = spread / gguf.quants.dequantize(data, kind).std()
            for place in HALVES[kind]:
                data[:, place:place + 2] = numpy.full((count, 1), scale, dtype=numpy.float16).view(numpy.uint8)
            data = data.reshape(rows, -1)
        else:
            values = (rng.normal(size=(rows, columns)) * spread).astype(numpy.float32)
            data = gguf.quants.quantize(values if heads is None else permuted(values, heads), kind)
        writer.add_tensor(name, data, raw_dtype=kind)

    def vector(name, values, heads=None):
        values = values.astype(numpy.float32)
        writer.add_tensor(name, values if heads is None else permuted(values, heads))

    def norm(name, width, middle=1.0):
        vector(name, middle + 0.3 * rng.normal(size=width))

    hidden, inner, query, key = case["hidden"], case["inner"], case["heads"] * case["head_dim"], case["kv_heads"] * case["head_dim"]
    paired = case["arch"] == "llama"
    if "factor" in case:
        vector("rope_freqs.weight", rope_factors(case))
    matrix("token_embd.weight", words, hidden, 0.5)
    for layer in range(case["layers"]):
        at = f"blk.{layer}."
        norm(at + "attn_norm.weight", hidden)
        for part, rows, columns, gain, heads in [
            ("attn_q", query, hidden, 1.6, case["heads"] if paired else None), ("attn_k", key, hidden, 1.6, case["kv_heads"] if paired else None),
            ("attn_v", key, hidden, 1, None), ("attn_output", hidden, query, 1, None), ("ffn_gate", inner, hidden, 1, None),
            ("ffn_up", inner, hidden, 1, None), ("ffn_down", hidden, inner, 1, None),
        ]:
            matrix(f"{at}{part}.weight", rows, columns, gain / math.sqrt(columns), heads)
            if case.get("biases") or case["arch"] == "qwen2" and part in ("attn_q", "attn_k", "attn_v"):
                vector(f"{at}{part}.bias", 0.3 * rng.normal(size=rows), heads)
        if case["arch"] == "qwen3":
            norm(at + "attn_q_norm.weight", case["head_dim"], 1.5)
            norm(at + "attn_k_norm.weight", case["head_dim"], 1.5)
        norm(at + "ffn_norm.weight", hidden)
    norm("output_norm.weight", hidden)
    if not case["tied"]:
        matrix("output.weight", words, hidden, 0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return words


def reference_model(folder, file, case, dtype):
    """What transformers opens, with the scalings and biases that its loader passes over."""
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=dtype, attn_implementation="eager").eval()
    if case.get("factor") is None:
        return model
    config = model.config
    config.rope_parameters = dict(rope_type="llama3", rope_theta=case["theta"], factor=case["factor"], low_freq_factor=1.0,
                                  high_freq_factor=4.0, original_max_position_embeddings=8192)
    config.attention_bias = config.mlp_bias = True
    config._name_or_path = ""
    whole = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager").eval()
    state = model.state_dict()
    reader = gguf.GGUFReader(pathlib.Path(folder) / file)
    places = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
              "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    for tensor in reader.tensors:
        if tensor.name.endswith(".bias"):
            _, layer, part, _ = tensor.name.split(".")
            values = torch.tensor(tensor.data.copy())
            heads = {"attn_q": case["heads"], "attn_k": case["kv_heads"]}.get(part)
            if heads is not None:  # the inverse of `permuted`
                values = values.reshape(heads, len(values) // heads // 2, 2).swapaxes(1, 2).reshape(-1)
            state[f"model.layers.{layer}.{places[part]}.bias"] = values
    whole.load_state_dict(state)
    return whole


QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokens_of(folder, file, kind):
    """transformers' tokenizer, and the same with what its loader leaves out."""
    plain = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    helped = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    backend = helped.backend_tokenizer
    if kind == "llama":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = None
    elif kind in ("smollm", "refact"):
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    elif kind == "olmo":
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    elif kind in (None, "qwen2"):
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    elif kind == "llama-bpe":
        backend.model.ignore_merges = True
    return plain, helped


def write_tokens(path, tokenizers, many):
    plain, helped = tokenizers
    rows = [dict(text=text, ids=helped(text)["input_ids"]) for text in many]
    same = sum(plain(row["text"])["input_ids"] == row["ids"] for row in rows)
    for row in rows:
        row["decoded"] = helped.decode(row["ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f'{{"plain": {same}, "of": {len(rows)}, "texts": [\n{lines}\n]}}\n')


def write(root, golden):
    """`golden`: make_golden.py, whose way of running transformers is used."""
    folder = root / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    write_blocks(folder / "blocks.safetensors", golden.write_tensors)
    vocabulary = Vocabulary()
    for name, case in MODELS.items():
        file = f"{name}.gguf"
        words = write_model(folder / file, name, vocabulary)
        generator = torch.Generator().manual_seed(len(name))
        examples = [torch.cat([torch.tensor([1]), torch.randint(4, words, (n - 1,), generator=generator)]) for n in LENGTHS]
        model = reference_model(folder, file, case, torch.float64)
        for module in model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = golden.norm_in_float64.__get__(module)
        values = golden.run_ragged(model, examples)
        single = golden.run_batch(reference_model(folder, file, case, torch.float32), examples)
        worst = golden.deviation(single["logits"], values["logits"])
        assert worst < 5e-6, (name, worst)
        if "factor" in case:
            other = golden.run_ragged(reference_model(folder, file, dict(case, factor=1.0), torch.float64), examples)["logits"]
            assert golden.deviation(other, values["logits"]) > 1e-4, "the scaling cannot be seen"
        golden.write_tensors(folder / f"{name}.safetensors", golden.f32(
            dict(input_ids=golden.pad(examples), lengths=torch.tensor(LENGTHS), logits=values["logits"], self_attn=values["self_attn.0"])))
        write_tokens(folder / f"{name}.json", tokens_of(folder, file, case["tokens"]), texts(160, name))
    families.write(golden, folder, vocabulary, LENGTHS)
    for name, (_, arch, *_, tokens) in families.CASES.items():
        with tempfile.TemporaryDirectory() as other:
            place, file = (folder, f"{name}.gguf") if arch in families.OPENED else (other, "tokens.gguf")
            if place == other:
                # transformers opens no tokenizer of an architecture that it does not know: the same one under another's name.
                writer = gguf.GGUFWriter(pathlib.Path(other) / file, "qwen2")
                vocabulary.write(writer, tokens)
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_tensors_to_file()
                writer.close()
            write_tokens(folder / f"{name}.json", tokens_of(place, file, tokens), texts(MANY.get(name, 160), name))


# ---------------------------------------------------------------- the real model

def write_smollm2(file, out):
    """Ids of 1,000 texts; logits at some places of the vocabulary, and 60 greedy tokens, of some prompts."""
    file = pathlib.Path(file).resolve()
    tokens = tokens_of(file.parent, file.name, "smollm")
    write_tokens(out, tokens, texts(1000, "smollm2"))
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager").eval()
    chat = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    prompts = []
    for prompt in [chat.format("What is the capital of France?"), "Once upon a time, in a land of  3 rivers,", "def fibonacci(n):\n    "]:
        ids = torch.tensor([tokens[1](prompt)["input_ids"]])
        with torch.no_grad():
            logits = model(ids).logits[0].double()
            made = model.generate(ids, max_new_tokens=60, do_sample=False, num_beams=1, repetition_penalty=1.0)[0, ids.shape[1]:]
            # How near the greedy choices are to others.
            after = model(torch.cat([ids[0], made])[None]).logits[0, ids.shape[1] - 1:-1].topk(2).values
        prompts.append(dict(
            prompt=prompt, ids=ids[0].tolist(), largest=logits.abs().max().item(),
            logits=[[float(f"{value:.9g}") for value in row[::512]] for row in logits[-2:].tolist()],
            greedy=made.tolist(), margin=(after[:, 0] - after[:, 1]).min().item(), text=tokens[1].decode(made, skip_special_tokens=True)))
    rows = json.loads(out.read_text())
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows["texts"])
    out.write_text(f'{{"plain": {rows["plain"]}, "of": {rows["of"]}, "prompts": {json.dumps(prompts, ensure_ascii=False)}, "texts": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    import make_golden
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smollm2", metavar="FILE", help="the real model's file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.smollm2:
        write_smollm2(arguments.smollm2, ROOT / "tests/data/smollm2.json")
    else:
        with tempfile.TemporaryDirectory() as made:
            write(pathlib.Path(made), make_golden)
            shutil.rmtree(make_golden.GOLDEN / "gguf", ignore_errors=True)
            shutil.copytree(pathlib.Path(made) / "gguf", make_golden.GOLDEN / "gguf")
