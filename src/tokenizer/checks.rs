//! What no real `tokenizer.json` holds, and what the `tokenizers` library would never come back from.

use super::Cause;

/// Refuses more steps before the vocabulary than any real tokenizer has: each may make a text longer, and `ByteLevel` makes every letter that is not
/// ASCII twice as long, so that a hundred of them never end.
pub(super) fn steps(parts: &tokenizers::Tokenizer) -> std::result::Result<(), Cause> {
    const MOST: usize = 32;
    let written = [serde_json::to_string(&parts.get_normalizer())?, serde_json::to_string(&parts.get_pre_tokenizer())?];
    let count: usize = written.iter().map(|steps| steps.matches(r#""type":"#).count()).sum();
    if count > MOST {
        return Err(format!("{count} steps of normalising and cutting, where none has more than {MOST}").into());
    }
    match written[1].matches(r#""type":"ByteLevel""#).count() {
        levels @ 3.. => Err(format!("ByteLevel {levels} times over, where once is enough").into()),
        _ => Ok(()),
    }
}

/// Refuses tokens of a Unigram vocabulary that are longer than any real one: the library keeps them in a tree as deep as the longest, and
/// takes it down by recursion, which ends the process where the tree is deeper than the stack.
pub(super) fn lengths(text: &[u8]) -> std::result::Result<(), Cause> {
    const LONGEST: usize = 1024;
    let text = std::str::from_utf8(text)?;
    // Byte pairs, some of them of many megabytes, need not be read twice.
    if text.contains("\"merges\"") && !text.contains("\"Unigram\"") {
        return Ok(());
    }
    let json: serde_json::Value = serde_json::from_str(text)?;
    let pieces = json["model"]["vocab"].as_array().into_iter().flatten();
    match pieces.filter_map(|piece| piece[0].as_str()).map(str::len).find(|&length| length > LONGEST) {
        Some(length) => Err(format!("a token of {length} bytes, where none has more than {LONGEST}").into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::tokenizer::tests::of_json;

    #[test]
    fn tokens_as_long_as_a_book_are_refused() {
        let json = |model: serde_json::Value, length: usize| {
            let mut json = serde_json::json!({"version": "1.0", "added_tokens": [], "model": model});
            json["model"]["vocab"] = serde_json::json!([["<unk>", 0.0], ["a".repeat(length), -1.0]]);
            json["model"]["unk_id"] = 0.into();
            json.to_string()
        };
        // The type may be left out.
        for model in [serde_json::json!({"type": "Unigram"}), serde_json::json!({"byte_fallback": false})] {
            assert_eq!(of_json(&json(model.clone(), 1000)).unwrap().encode(&"a".repeat(1000)).unwrap(), [1]);
            let error = of_json(&json(model, 200_000)).unwrap_err();
            assert!(error.is_file() && error.to_string().contains("200000 bytes"), "{error}");
        }
    }

    #[test]
    fn steps_a_hundred_times_over_are_refused() {
        let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        let lower = serde_json::json!({"type": "Lowercase"});
        let json = |levels: usize, lowers: usize| {
            let sequence =
                |name: &str, step: &serde_json::Value, count: usize| serde_json::json!({"type": "Sequence", name: vec![step; count]});
            serde_json::json!({"version": "1.0", "added_tokens": [], "normalizer": sequence("normalizers", &lower, lowers),
                "pre_tokenizer": sequence("pretokenizers", &level, levels),
                "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}})
            .to_string()
        };
        assert_eq!(of_json(&json(2, 8)).unwrap().encode("A").unwrap(), [1]);
        for (levels, lowers, words) in [(3, 1, "ByteLevel 3 times"), (1, 100, "103 steps")] {
            let error = of_json(&json(levels, lowers)).unwrap_err();
            assert!(error.is_file() && error.to_string().contains(words), "{error}");
        }
    }
}
