//! What llama.cpp stores of one family and not of another.

use super::*;
use crate::model::config::LayerParts;

/// The metadata of a small model of `layers` layers with layer norms.
fn layer_normed(architecture: &str) -> Made {
    small(architecture).put(&format!("{architecture}.attention.layer_norm_epsilon"), Put::Float(1e-5))
}

/// The same model with another number of layers.
fn of_layers(architecture: &str, layers: u32) -> Made {
    let mut made = small(architecture);
    let key = format!("{architecture}.block_count");
    let place = made.metadata.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len() + 4;
    made.metadata[place..place + 4].copy_from_slice(&layers.to_le_bytes());
    made
}

fn windows(made: Made) -> Vec<Option<i64>> {
    made.config().unwrap().parts.layers.iter().map(|layer: &LayerParts| layer.window).collect()
}

#[test]
fn layers_attend_to_the_windows_that_the_file_names() {
    const KEY: &str = "gemma3.attention.sliding_window";
    const PATTERN: &str = "gemma3.attention.sliding_window_pattern";
    let with = |layers: u32| of_layers("gemma3", layers).put(KEY, Put::Number(16));
    let (on, off) = (Some(16), None);
    assert_eq!(windows(with(7)), [on, on, on, on, on, off, on], "the last of six as a rule");
    assert_eq!(windows(with(4).put(PATTERN, Put::Number(2))), [on, off, on, off]);
    assert_eq!(windows(with(2).put(PATTERN, Put::Number(0))), [on, on]);
    assert_eq!(windows(with(2).put(PATTERN, Put::Number(1))), [off, off]);
    assert_eq!(windows(with(3).put(PATTERN, Put::Numbers(&[0, 1, 1]))), [off, on, on]);
    assert_eq!(windows(with(3).put(PATTERN, Put::Flags(&[true, false, true]))), [on, off, on]);
    let without = |made: Made| windows(made).iter().all(Option::is_none);
    assert!(without(of_layers("gemma3", 3)) && without(of_layers("gemma3", 3).put(KEY, Put::Number(0))));
    refused(with(3).put(PATTERN, Put::Flags(&[true])).config(), &["sliding_window_pattern` has 1 values for 3 layers"]);
    refused(with(3).put(PATTERN, Put::Text("ab")).config(), &["sliding_window_pattern` must be a whole number"]);
    // No list as long as a number that only the header says.
    refused(of_layers("gemma3", u32::MAX).put(KEY, Put::Number(16)).config(), &["`num_hidden_layers`"]);

    // Another family's usual pattern, and its usual window where older files name none.
    let second = |made: Made| windows(made)[..3].to_vec();
    assert_eq!(second(of_layers("gemma2", 3)), [Some(4096), None, Some(4096)]);
    assert_eq!(second(of_layers("gemma2", 3).put("gemma2.attention.sliding_window", Put::Number(32))), [Some(32), None, Some(32)]);
    // All layers or none, and not to be guessed.
    let third = |window: u32| windows(of_layers("phi3", 2).put("phi3.attention.sliding_window", Put::Number(window)));
    assert_eq!((third(64), third(0)), (vec![Some(64); 2], vec![None; 2]));
    refused(small("phi3").config(), &["`phi3.attention.sliding_window`", "take a newer file"]);
    // One name for two families, told apart by the window.
    let of = |window| of_layers("olmo2", 5).put("olmo2.attention.sliding_window", Put::Number(window)).config().unwrap();
    let (before, after) = (of(0), of(64));
    assert_eq!((before.family.model_type(), after.family.model_type()), ("olmo2", "olmo3"));
    assert_eq!(after.parts.layers.iter().map(|layer| layer.window.is_some()).collect::<Vec<_>>(), [true, true, true, false, true]);
    assert_eq!(after.parts.windowed_rope.unwrap().theta, 1e4, "that of all layers, where none is named for these");
}

#[test]
fn what_is_not_in_the_file_is_taken_as_llama_cpp_does() {
    let scale = |made: Made| made.config().unwrap().parts.layers[0].scale.unwrap();
    // By the width of a head (16), and in the largest model by what a head has of the stream, which here is the same: so another width.
    let wide = |name: &str, layers: u32| of_layers(name, layers).put(&format!("{name}.attention.key_length"), Put::Number(64));
    for (name, largest) in [("gemma2", 46), ("gemma3", 62)] {
        assert_eq!(scale(wide(name, 2)), 0.125, "{name}");
        assert_eq!(scale(wide(name, largest)), 0.25, "{name}");
    }
    let caps = |made: Made| made.config().map(|config| (config.parts.score_cap, config.parts.logits_cap)).unwrap();
    assert_eq!(caps(small("gemma2")), (Some(50.0), Some(30.0)));
    let off = small("gemma2").put("gemma2.attn_logit_softcapping", Put::Float(0.0));
    assert_eq!(caps(off.put("gemma2.final_logit_softcapping", Put::Float(8.0))), (None, Some(8.0)));
    assert_eq!(scale(small("granite")), 0.25);
    assert_eq!(scale(small("granite").put("granite.attention.scale", Put::Float(0.5))), 0.5);
    let factors =
        small("granite").put("granite.logit_scale", Put::Float(4.0)).put("granite.residual_scale", Put::Float(0.0)).config().unwrap();
    assert_eq!((factors.parts.logits_divisor, factors.parts.residual_scale), (Some(4.0), None));
    let turned = of_layers("smollm3", 5).config().unwrap().parts.layers.iter().map(|layer| layer.rotary).collect::<Vec<_>>();
    assert_eq!(turned, [true, true, true, false, true]);
    let routed = [("expert_count", 8), ("expert_used_count", 2), ("expert_feed_forward_length", 32)];
    let routed = routed.iter().fold(small("qwen3moe"), |made, (key, number)| made.put(&format!("qwen3moe.{key}"), Put::Number(*number)));
    assert!(routed.config().unwrap().parts.experts.unwrap().normalised);
}

#[test]
fn a_part_of_each_head_is_turned() {
    let key = "gptneox.rope.dimension_count";
    let width = |made: Made| made.config().map(|config| config.parts.rotary_width);
    for turned in [2, 4, 6, 10, 12, 14, 16] {
        assert_eq!(width(layer_normed("gptneox").put(key, Put::Number(turned))).unwrap(), i64::from(turned));
    }
    // Shares that no number of the computer's is: 6 of 14 dimensions, 10 of 22.
    for (head, turned) in [(14, 6), (22, 10), (96, 34), (80, 32), (120, 66)] {
        let made = layer_normed("gptneox").put("gptneox.attention.key_length", Put::Number(head)).put(key, Put::Number(turned));
        assert_eq!(width(made).unwrap(), i64::from(turned), "{turned} of {head}");
    }
    assert_eq!(width(layer_normed("gptneox")).unwrap(), 16, "all where nothing is said");
    refused(width(layer_normed("gptneox").put(key, Put::Number(0))), &["rotary_pct"]);
    refused(width(layer_normed("gptneox").put(key, Put::Number(32))), &["rotary_pct"]);
    refused(width(layer_normed("gptneox").put(key, Put::Text("a"))), &["rope.dimension_count"]);
    refused(small("gptneox").config(), &["lack `gptneox.attention.layer_norm_epsilon`"]);
    refused(small("gpt2").config(), &["lack `gpt2.attention.layer_norm_epsilon`"]);
    let parallel =
        |parallel: bool| layer_normed("gptneox").put("gptneox.use_parallel_residual", Put::Flag(parallel)).config().unwrap().parts.parallel;
    assert!(parallel(true) && !parallel(false));
}

#[test]
fn a_lengthened_context_is_read_from_tensors() {
    let numbers = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let plain = || small("phi3").put("phi3.attention.sliding_window", Put::Number(0));
    let short = |made: Made| made.tensor("rope_factors_short.weight", &[8], 0, &numbers(&[1.0; 8]));
    let long = |made: Made| made.tensor("rope_factors_long.weight", &[8], 0, &numbers(&[4.0; 8]));
    let context = |made: Made| made.put("phi3.rope.scaling.original_context_length", Put::Number(32));
    let scaling = |made: Made| made.config().map(|config| config.rope.scaling);
    let expected = |growth| Scaling::LongRope { short: vec![1.0; 8], long: vec![4.0; 8], original_max_positions: 32, growth };
    let whole = || context(short(long(plain())));
    assert_eq!(scaling(whole().put("phi3.rope.scaling.attn_factor", Put::Float(1.25))).unwrap(), expected(1.25));
    assert_eq!(scaling(whole()).unwrap(), expected((1.0 + 4f64.ln() / 32f64.ln()).sqrt()));
    assert_eq!(scaling(context(plain())).unwrap(), Scaling::None, "every file of this family names it");
    refused(scaling(context(short(plain()))), &["rope_factors_short.weight", "one alone"]);
    refused(scaling(short(long(plain()))), &["lack `phi3.rope.scaling.original_context_length`"]);
    refused(scaling(whole().put("phi3.rope.scaling.factor", Put::Float(2.0))), &["twice", "rope_factors_long.weight"]);
    let lacking = plain().tensor("rope_factors_short.weight", &[4], 0, &numbers(&[1.0; 4]));
    refused(scaling(context(long(lacking))), &["`short_factor` and `long_factor` hold 4 and 8 numbers"]);
    let (_file, opened) = whole().open().unwrap();
    assert_eq!(opened.names().len(), 1, "factors are no weights");
}

#[test]
fn matrices_that_are_always_in_f32_do_not_decide_the_kind() {
    let made = Made::default().put("general.architecture", Put::Text("gpt2"));
    let made = made.tensor("token_embd.weight", &[32, 4], 1, &[0; 256]).tensor("position_embd.weight", &[32, 8], 0, &[0; 1024]);
    assert_eq!(made.open().unwrap().1.kind(), Kind::Half);
}

#[test]
fn raised_norms_come_down_and_nothing_else_does() {
    let ones = 1.5f32.to_le_bytes().repeat(32);
    let with = |architecture: &str| {
        let made = small(architecture).tensor("output_norm.weight", &[32], 0, &ones).tensor("blk.0.ffn_norm.weight", &[32], 0, &ones);
        made.tensor("blk.0.attn_output.weight", &[32, 1], 0, &ones)
    };
    let number = |architecture: &str, own: &str| {
        let (_file, opened) = with(architecture).open().unwrap();
        opened.load(own, own, Kind::BFloat16).unwrap().reshape([-1]).double_value(&[31])
    };
    for own in ["output_norm.weight", "blk.0.ffn_norm.weight"] {
        assert_eq!((number("gemma2", own), number("gemma3", own), number("llama", own)), (0.5, 0.5, 1.5), "{own}");
    }
    assert_eq!(number("gemma2", "blk.0.attn_output.weight"), 1.5);
}

/// A vocabulary of pieces in the order in which they merge, with runs of spaces as llama.cpp's converter writes them.
#[test]
fn pieces_merge_in_their_order_where_the_family_has_them_so() {
    let tokens = ["<unk>", "  ", "   ", "▁", "a", "b", "ab", "▁a", "aa"];
    let scores = [0.0, -1000.0, -1000.0, -1.0, -2.0, -3.0, -9.0, -4.0, -5.0];
    let types = [2, 4, 4, 1, 1, 1, 1, 1, 1];
    let made = |architecture: &str| {
        let made = small(architecture).put("tokenizer.ggml.model", Put::Text("llama")).put("tokenizer.ggml.tokens", Put::Texts(&tokens));
        let made = made.put("tokenizer.ggml.scores", Put::Floats(&scores)).put("tokenizer.ggml.token_type", Put::Numbers(&types));
        let made = made.put("tokenizer.ggml.unknown_token_id", Put::Number(0)).put("tokenizer.ggml.add_space_prefix", Put::Flag(false));
        made.put("tokenizer.ggml.add_bos_token", Put::Flag(false))
    };
    let encode = |architecture: &str, text: &str| tokenizer(&made(architecture)).unwrap().encode(text).unwrap();
    // "ab" stands before "▁a" here, and has the worse score there.
    assert_eq!(encode("gemma3", " ab"), [3, 6]);
    assert_eq!(encode("llama", " ab"), [7, 5]);
    assert_eq!((encode("gemma3", "a   b"), encode("gemma3", "a    b")), (vec![4, 2, 5], vec![4, 1, 1, 5]));
    assert_eq!(tokenizer(&made("gemma3")).unwrap().decode(&[4, 2, 5]).unwrap(), "a   b");
    // As pieces of a text, not found before it is cut.
    assert_eq!(encode("llama", "a  a"), [4, 1, 4]);
}
