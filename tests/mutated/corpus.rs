//! Inputs that once fell: small ones as files in `tests/corpus/<reader>`, large ones made here.

use std::path::Path;

use crate::mutate::Shape;
use crate::readers::Reader;
use crate::slug;

/// A file's name begins with the name of the reader it is for, or of all readers that begin so.
pub fn of(reader: &Reader) -> Vec<(String, Vec<u8>)> {
    let name = slug(&reader.name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut found = Vec::new();
    for folder in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        if name.starts_with(&*folder.file_name().to_string_lossy()) {
            for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
                found.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    found.sort();
    found.extend(changed(reader));
    for (start, label, input) in made() {
        // Megabytes are for files.
        if reader.name.starts_with(start) && (reader.file.is_some() || !label.ends_with("1,000,000")) {
            found.push((label.into(), input.into_bytes()));
        }
    }
    found
}

/// Changes of the valid input that were taken for whole.
fn changed(reader: &Reader) -> Vec<(String, Vec<u8>)> {
    let valid = &reader.inputs[0];
    let mut found = Vec::new();
    let mut replaced = |label: &str, from: &str, to: &str| {
        let place = valid.windows(from.len()).position(|window| window == from.as_bytes());
        let place = place.unwrap_or_else(|| panic!("{}: `{from}` is not in it", reader.name));
        let mut changed = [&valid[..place], to.as_bytes(), &valid[place + from.len()..]].concat();
        // The header says how long it is.
        if reader.shape == Shape::Safetensors {
            let length = u64::from_le_bytes(valid[..8].try_into().unwrap()) + to.len() as u64 - from.len() as u64;
            changed[..8].copy_from_slice(&length.to_le_bytes());
        }
        found.push((label.to_owned(), changed));
    };
    match reader.name.as_str() {
        "record of a run" => {
            replaced("an accuracy of 17.5", "\"accuracy\": ", "\"accuracy\": 17.5, \"other\": ");
            replaced("a loss that is no number", "\"dev_loss\": ", "\"dev_loss\": NaN, \"other\": ");
            replaced("more steps than are taken", "\"steps\": ", "\"steps\": 1");
        }
        "checkpoint" => {
            replaced("a step by hand", "\\\"step\\\":2", "\\\"step\\\":7");
            replaced("ended otherwise", "\\\"stopped\\\":\\\"epochs\\\"", "\\\"stopped\\\":\\\"converged\\\"");
            replaced("whole numbers for fractions", "\"dtype\":\"F32\"", "\"dtype\":\"I32\"");
        }
        "capture" => {
            replaced("another hook point", "model.layers.1.mlp", "model.layers.9.mlp");
            replaced("a length below zero", "\\\"lengths\\\":[1", "\\\"lengths\\\":[18446744073709551615");
            replaced("a token that is none", "\\\"response\\\":[", "\\\"response\\\":[4294967295,");
        }
        "adapter_config.json, lora" => replaced("twice as strong", "\"lora_alpha\": ", "\"lora_alpha\": 1"),
        "tokenizer.json, tiny-icl" => {
            found.extend((0..valid.len()).step_by(149).map(|end| (format!("cut after {end} bytes"), valid[..end].to_vec())));
        }
        _ => {}
    }
    // One flipped bit in the last byte of the tensors, whose numbers follow the header.
    if reader.ours && reader.shape == Shape::Safetensors {
        let mut flipped = valid.clone();
        if let Some(last) = flipped.last_mut() {
            *last ^= 0x40;
        }
        found.push(("a flipped bit".into(), flipped));
    }
    for other in &reader.others {
        found.push(("of another".into(), other.clone()));
    }
    found
}

/// Reader, label, input.
fn made() -> Vec<(&'static str, &'static str, String)> {
    let mut made = vec![
        ("answer", "3,000 nested fractions", format!("\\boxed{{{}1{}}}", "\\frac{".repeat(3_000), "}".repeat(3_000))),
        ("answer", "100,000 nested fractions", format!("\\boxed{{{}1{}}}", "\\frac{".repeat(100_000), "}".repeat(100_000))),
        ("answer", "20,000 boxes that nobody closes", "\\boxed{".repeat(20_000)),
        ("answer", "20,000 fractions that nobody closes", format!("\\boxed{{{}}}", "\\frac{\\}".repeat(20_000))),
        ("pattern", "a million stars", "*".repeat(1_000_000)),
        ("pattern", "ten stars", format!("{}!", "*a".repeat(10))),
        ("pattern", "thirty stars", format!("model.layers.{}!", "*e*".repeat(15))),
    ];
    let long = "a".repeat(200_000);
    made.push((
        "tokenizer.json, small",
        "a Unigram token of 200,000 letters",
        format!(r#"{{"version": "1.0", "model": {{"type": "Unigram", "unk_id": 0, "vocab": [["<s>", 0.0], ["{long}", -1.0]]}}}}"#),
    ));
    let twice = "{% set n = namespace(x='a') %}{% for i in range(28) %}{% set n.x = n.x ~ n.x %}{% endfor %}";
    made.push(("chat_template.jinja", "a text that doubles", twice.into()));
    let nested = "{% for i in range(99999) %}{% for j in range(99999) %}a{% endfor %}{% endfor %}";
    made.push(("chat_template.jinja", "loops within loops", nested.into()));
    made.push(("chat_template.jinja", "a text times a billion", "{{ 'a' * 1000000000000 }}{{ [0] * 1000000000000 }}".into()));
    made.push(("chat_template.jinja", "a macro of itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into()));
    made.push(("chat_template.jinja", "an error far to the right", format!("{}{{{{ ! }}}}", "a".repeat(70_000))));
    made.push(("chat_template.jinja", "nested", format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000))));
    made.push(("refs/main", "a path", "/etc".into()));
    made.push(("refs/main", "a path upwards", "../../..".into()));
    for (label, depth) in [("nested to 100", 100), ("nested to 1,000", 1_000), ("nested to 1,000,000", 1_000_000)] {
        made.push(("", label, "[".repeat(depth)));
        made.push(("", label, format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))));
    }
    for text in ["", "\0", "{", "{}", "[]", "null", "\u{feff}{}", "NaN", "\"", "\n\n\n"] {
        made.push(("", "almost nothing", text.into()));
    }
    made
}
