"""The configurations of golden_families.py, and how transformers 4 and the models' makers spelled them."""

HIDDEN, INNER, VOCAB, CONTEXT = 32, 40, 128, 512
WINDOW = 8

SLIDING, FULL = "sliding_attention", "full_attention"
THETA = dict(rope_type="default", rope_theta=10000.0)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=CONTEXT // 4, beta_fast=4.0, beta_slow=1.0)
# Four rotary pairs of wavelength 6.3, 39, 247, ...: the first is kept, the second blended, the others divided.
LLAMA3 = dict(rope_type="llama3", rope_theta=1500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
# The keys of the other spelling that follow from what the file says anyway.
DERIVED = ("dtype", "layer_types", "_sliding_window_pattern")


def heads(query, key, **more):
    return dict(num_attention_heads=query, num_key_value_heads=key, **more)


# name -> (class of the configuration, spelling of config.json, settings)
CASES = {
    "mistral": ("MistralConfig", "older", dict(
        num_hidden_layers=2, **heads(4, 2), sliding_window=WINDOW, rope_parameters=THETA)),
    "mistral_yarn": ("MistralConfig", "new", dict(
        num_hidden_layers=2, **heads(2, 1, head_dim=8), sliding_window=None, rope_parameters=YARN)),
    "gemma2": ("Gemma2Config", "older", dict(
        num_hidden_layers=3, **heads(4, 2, head_dim=12), sliding_window=WINDOW, query_pre_attn_scalar=20, attn_logit_softcapping=3.0,
        final_logit_softcapping=6.0, rope_parameters=THETA)),
    "gemma3_text": ("Gemma3TextConfig", "older", dict(
        num_hidden_layers=4, **heads(4, 1, head_dim=8), sliding_window=WINDOW, query_pre_attn_scalar=6,
        layer_types=[SLIDING, SLIDING, FULL, SLIDING],
        rope_parameters={FULL: dict(rope_type="linear", factor=8.0, rope_theta=1e6), SLIDING: THETA})),
    "gemma3": ("Gemma3Config", "new", dict(
        text_config=dict(num_hidden_layers=3, **heads(4, 2, head_dim=8), sliding_window=WINDOW, query_pre_attn_scalar=16,
                         layer_types=[SLIDING, FULL, SLIDING], hidden_size=HIDDEN, intermediate_size=INNER, vocab_size=VOCAB,
                         max_position_embeddings=CONTEXT, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        vision_config=dict(model_type="siglip_vision_model", hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                           num_attention_heads=1, image_size=4, patch_size=2, vision_use_head=False),
        mm_tokens_per_image=4, boi_token_index=125, eoi_token_index=126, image_token_index=127)),
    "gpt2": ("GPT2Config", "older", dict(n_embd=HIDDEN, n_head=4, n_layer=3, n_positions=CONTEXT)),
    "gpt2_inner": ("GPT2Config", "new", dict(
        n_embd=HIDDEN, n_head=2, n_layer=2, n_positions=64, n_inner=INNER, tie_word_embeddings=False)),
    "gpt_neox": ("GPTNeoXConfig", "older", dict(
        num_hidden_layers=3, num_attention_heads=4, use_parallel_residual=True,
        rope_parameters=dict(THETA, partial_rotary_factor=0.5))),
    "gpt_neox_sequential": ("GPTNeoXConfig", "new", dict(
        num_hidden_layers=2, num_attention_heads=2, use_parallel_residual=False,
        rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=10000.0, partial_rotary_factor=0.25))),
    "phi3": ("Phi3Config", "new", dict(
        num_hidden_layers=2, **heads(4, 4), sliding_window=WINDOW, rope_parameters=dict(THETA, partial_rotary_factor=1.0))),
    "phi3_longrope": ("Phi3Config", "older", dict(
        num_hidden_layers=2, **heads(4, 2), sliding_window=None, original_max_position_embeddings=16, partial_rotary_factor=0.75,
        max_position_embeddings=64, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.25, 1.5],
                             long_factor=[2.0, 3.0, 5.0], original_max_position_embeddings=16))),
    "olmo2": ("Olmo2Config", "older", dict(num_hidden_layers=2, **heads(4, 2), rope_parameters=THETA)),
    "olmo3": ("Olmo3Config", "older", dict(
        num_hidden_layers=4, **heads(4, 4), sliding_window=WINDOW, layer_types=[SLIDING, FULL, SLIDING, FULL],
        rope_parameters={FULL: dict(YARN, rope_theta=500000.0), SLIDING: dict(rope_type="default", rope_theta=500000.0)})),
    "smollm3": ("SmolLM3Config", "new", dict(
        num_hidden_layers=4, **heads(4, 1), no_rope_layers=[1, 0, 1, 1], rope_parameters=LLAMA3)),
    "smollm3_window": ("SmolLM3Config", "older", dict(
        num_hidden_layers=3, **heads(4, 2), no_rope_layer_interval=2, use_sliding_window=True, sliding_window=WINDOW,
        rope_parameters=dict(rope_type="default", rope_theta=2e6))),
    "granite": ("GraniteConfig", "older", dict(
        num_hidden_layers=2, **heads(4, 2), attention_multiplier=0.5, embedding_multiplier=6.0, residual_multiplier=1.25,
        logits_scaling=4.0, tie_word_embeddings=True, rope_parameters=THETA)),
    "qwen3_moe": ("Qwen3MoeConfig", "older", dict(
        num_hidden_layers=3, **heads(4, 2, head_dim=8), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        norm_topk_prob=True, mlp_only_layers=[1], decoder_sparse_step=1, rope_parameters=THETA)),
    "qwen3_moe_raw": ("Qwen3MoeConfig", "new", dict(
        num_hidden_layers=2, **heads(4, 1, head_dim=8), num_experts=3, num_experts_per_tok=1, moe_intermediate_size=16,
        norm_topk_prob=False, tie_word_embeddings=True, rope_parameters=THETA)),
    "qwen2_window": ("Qwen2Config", "older", dict(
        num_hidden_layers=3, **heads(4, 2), use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1,
        rope_parameters=YARN)),
    "qwen3_window": ("Qwen3Config", "new", dict(
        num_hidden_layers=3, **heads(4, 2, head_dim=8), use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1,
        tie_word_embeddings=True, rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=1e6))),
    "llama_dynamic": ("LlamaConfig", "older", dict(
        num_hidden_layers=2, **heads(4, 4), max_position_embeddings=16, rope_parameters=dict(THETA, rope_type="dynamic", factor=4.0))),
    "llama_yarn": ("LlamaConfig", "older", dict(
        num_hidden_layers=2, **heads(4, 2), rope_parameters=dict(YARN, attention_factor=0.8, truncate=False))),
}


def text_config(config):
    return getattr(config, "text_config", None) or config


def older_rope(old):
    """`rope_parameters` as transformers 4 spelled it, in each family's own way."""
    rope = old.pop("rope_parameters", None)
    if rope is None:
        return
    if FULL in rope:
        full, sliding = dict(rope[FULL]), dict(rope[SLIDING])
        old["rope_theta"] = full.pop("rope_theta")
        if old["model_type"] == "olmo3":
            assert sliding["rope_theta"] == old["rope_theta"]
        else:
            old["rope_local_base_freq"] = sliding["rope_theta"]
        rope = full
    else:
        rope = dict(rope)
        old["rotary_emb_base" if old["model_type"] == "gpt_neox" else "rope_theta"] = rope.pop("rope_theta")
    part = rope.pop("partial_rotary_factor", None)
    if part is not None:
        old["rotary_pct" if old["model_type"] == "gpt_neox" else "partial_rotary_factor"] = part
    kind = rope.pop("rope_type")
    if kind == "longrope":
        rope.pop("original_max_position_embeddings")  # stands outside
    # `type` is the first name of `rope_type`.
    old["rope_scaling"] = None if kind == "default" else {older_key(old, kind): kind, **rope}


def older_key(old, kind):
    """`type` is the first name of `rope_type`, which families with two embeddings never used."""
    return "type" if kind in ("linear", "dynamic", "longrope") and old["model_type"] != "gemma3_text" else "rope_type"


def older_spelling(config):
    """A config.json of transformers 5 as transformers 4 and the models' makers wrote it."""
    old = dict(config, transformers_version="4.51.0", torch_dtype=config.get("dtype", "bfloat16"))
    if "text_config" in old:
        old["text_config"] = older_spelling(old["text_config"])
        del old["text_config"]["transformers_version"]
        del old["dtype"]
        return dict(sorted(old.items()))
    older_rope(old)
    kind = old["model_type"]
    for key in DERIVED:
        if (key, kind) != ("layer_types", "olmo3"):
            old.pop(key, None)
    if kind == "gemma2":
        old |= dict(hidden_act=old["hidden_activation"], cache_implementation="hybrid", sliding_window_size=WINDOW)
        old.pop("use_bidirectional_attention", None)
    if kind == "gemma3_text":
        pattern = config["layer_types"].index(FULL) + 1
        assert config["layer_types"] == [FULL if (i + 1) % pattern == 0 else SLIDING for i in range(len(config["layer_types"]))]
        old |= dict(sliding_window_pattern=pattern, cache_implementation="hybrid")
        old.pop("use_bidirectional_attention", None)
    if kind == "qwen3_moe":
        old["num_experts"] = old.pop("num_local_experts")
    if kind == "qwen2":
        old.pop("head_dim", None)
    if kind == "mistral" and old["head_dim"] * old["num_attention_heads"] == HIDDEN:
        del old["head_dim"]
    if kind == "gpt2":
        for key in ("add_cross_attention", "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "pad_token_id"):
            old.pop(key)
        if old["n_inner"] is None:
            del old["n_inner"]
        old |= dict(n_ctx=old["n_positions"], task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}})
    return dict(sorted(old.items()))
