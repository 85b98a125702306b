"""Texts that tokenizers cut in many ways, and the vocabularies that golden_gguf.py puts into its files."""

import json
import pathlib
import random
import unicodedata

import gguf
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]


# Tasks that came later, which would change every vocabulary.
LATER = ["shortcut.jsonl", "shortcut_contrary.jsonl"]


def task_texts():
    """Lines of the tasks that come with the library."""
    texts = []
    for path in sorted(path for path in (ROOT / "data/tasks").glob("*.jsonl") if path.name not in LATER):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            texts += [value for value in row.values() if isinstance(value, str) and value]
    return texts


PIECES = [
    "the", "The", " cat", "don't", "IT'S", "we'll", "I'd", "x'y", "running", "Zürich", unicodedata.normalize("NFD", "Zürich"), "naïve", "日本語", "の",
    "안녕", "Привет", "مرحبا", "हिन्दी", "🦀", "👩‍🔬", "½", "²", "٣", "12", "3", "2024", "1,000,000", "3.14", "0x1F", " ", "  ", "   ", "\n", "\n\n", "\r\n",
    "\t", "\u00a0", "\u3000", ".", ",", "!?", "...", "—", "(", ")", "{}", "[0]", "=>", "==", "//", "#", "@user", "a_b", "C++", "http://a.b/c?d=e",
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "<unk>", "<0x0A>", "zqx", "aaaa", "ééé", "\u0301", "A\u030a", "ﬁ", "\x07",
]


def texts(count, seed):
    """Half lines of tasks, half mixtures of whatever may be cut differently."""
    rng = random.Random(seed)
    lines = rng.sample(task_texts(), count // 2)
    mixed = ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 12))) for _ in range(count - len(lines))]
    return lines + mixed


def byte_vocabulary(size):
    """Bytes, merges learned from the tasks, and special tokens: (tokens, types, merges)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(task_texts() + ["3" * 9, "éé"], trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(learned["vocab"], key=learned["vocab"].get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in learned["merges"]]
    # A token that no merge leads to.
    tokens.append("zqx")
    types = [gguf.TokenType.NORMAL] * len(tokens)
    for token, kind in [("<|endoftext|>", gguf.TokenType.CONTROL), ("<|im_start|>", gguf.TokenType.CONTROL),
                        ("<|im_end|>", gguf.TokenType.CONTROL), ("<think>", gguf.TokenType.USER_DEFINED)]:
        tokens.append(token)
        types.append(kind)
    return tokens, types, merges


def sentence_vocabulary(size):
    """As SentencePiece writes it for Llama: (tokens, types, scores)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(task_texts(), trainers.BpeTrainer(vocab_size=size, show_progress=False))
    learned = json.loads(tokenizer.to_str())["model"]
    merged = ["".join(merge.split(" ") if isinstance(merge, str) else merge) for merge in learned["merges"]]
    single = sorted(set(learned["vocab"]) - set(merged), key=learned["vocab"].get)
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + merged + single
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    types += [gguf.TokenType.NORMAL] * (len(tokens) - len(types))
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(merged) + len(single))]
    return tokens, types, scores


def gemma_vocabulary(size):
    """As SentencePiece has it for Gemma: breaks and runs of spaces that a user has defined, the latter as llama.cpp's converter spells them."""
    learned, types, _ = sentence_vocabulary(size)
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<unused0>", "<start_of_turn>", "<end_of_turn>"]
    defined = ["\n" * count for count in range(1, 5)] + [" " * count for count in range(2, 9)] + ["<table>"]
    rest = [token for token in learned[259:] if token not in defined and token.strip("▁") or token == "▁"]
    kinds = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 4
    tokens = special + defined + [f"<0x{byte:02X}>" for byte in range(256)] + rest
    types = kinds + [gguf.TokenType.USER_DEFINED] * len(defined) + [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(rest)
    scores = [-1000.0] * (len(special) + len(defined)) + [0.0] * 256 + [-float(rank) for rank in range(len(rest))]
    return tokens, types, scores
