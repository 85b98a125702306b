//! Changes of an input: bits and bytes, lines and fields, JSON by its values, safetensors by its header.

use serde_json::{Map, Value};

/// What a mutation knows of its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Json,
    /// A JSON object a line.
    Lines,
    /// Lines of fields.
    Table,
    Safetensors,
    /// Anything else in a file.
    Bytes,
    /// Text made of such pieces, read from a string.
    Text(&'static [&'static str]),
}

/// SplitMix64: the same inputs from the same seed on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, reader: &str, input: u64) -> Self {
        let name = reader.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let mut random = Self(seed ^ name.rotate_left(17) ^ input.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// Mostly small, seldom large.
    fn length(&mut self, most: usize) -> usize {
        let bits = self.below(usize::BITS as usize - most.leading_zeros() as usize + 1);
        self.below((1usize << bits).min(most).max(1)) + 1
    }
}

/// A changed copy of one of the inputs.
pub fn mutated(shape: Shape, inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let input = &inputs[random.below(inputs.len())];
    let mut changed = once(shape, input, inputs, random);
    while random.chance(4) {
        changed = once(shape, &changed, inputs, random);
    }
    changed
}

fn once(shape: Shape, input: &[u8], inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let blind = random.chance(if shape == Shape::Bytes { 1 } else { 4 });
    match shape {
        _ if blind => bytes(input, inputs, random),
        Shape::Json => json_text(input, random),
        Shape::Lines => lines(input, b'\n', random, json_text),
        Shape::Table => lines(input, b'\n', random, |line, random| {
            let separator = *random.one(&[&b'\t', &b',', &b'@']);
            lines(line, separator, random, |field, random| match random.below(4) {
                0 => string(random).into_bytes(),
                1 => format!("\"{}\"", String::from_utf8_lossy(field)).into_bytes(),
                2 => Vec::new(),
                _ => bytes(field, &[], random),
            })
        }),
        Shape::Safetensors => safetensors(input, random).unwrap_or_else(|| bytes(input, inputs, random)),
        Shape::Bytes => bytes(input, inputs, random),
        Shape::Text(pieces) => text(input, pieces, random),
    }
}

/// Without a thought for what they mean.
fn bytes(input: &[u8], inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const TOKENS: &[&[u8]] = &[
        b"\0",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\"",
        b"\\",
        b"{",
        b"[",
        b"PAR1",
        b"\x80\x80\x80\x80\x80\x01",
    ];
    let mut changed = input.to_vec();
    let place = random.below(input.len() + 1);
    // Formats keep what matters at either end.
    let place = match random.below(6) {
        0 => random.below(16.min(input.len() + 1)),
        2 => random.below(4096.min(input.len() + 1)),
        1 => input.len().saturating_sub(random.below(400)),
        _ => place,
    };
    let reach = random.length(64).min(input.len() - place);
    match random.below(12) {
        // A length or a count of a binary format.
        10 | 11 => {
            let number: u64 = random
                .one(&[
                    &0,
                    &1,
                    &0xff,
                    &0x7fff,
                    &0xffff,
                    &0x7fff_ffff,
                    &0xffff_ffff,
                    &0x1_0000_0000,
                    &(1 << 40),
                    &(u64::MAX >> 1),
                    &u64::MAX,
                ])
                .to_owned();
            let width = (1 << random.below(4)).min(input.len() - place);
            changed[place..place + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
        0..3 if !input.is_empty() => {
            for _ in 0..random.length(8) {
                let place = if random.chance(2) { place.min(input.len() - 1) } else { random.below(input.len()) };
                changed[place] ^= 1 << random.below(8);
            }
        }
        3 => changed.truncate(place),
        4 => drop(changed.drain(place..place + reach)),
        5 => drop(changed.splice(place..place, random.one(TOKENS).repeat(random.length(4)))),
        6 => {
            let piece = input[place..place + reach].repeat(random.length(64));
            changed.splice(place..place, piece);
        }
        7 => (0..reach).for_each(|step| changed[place + step] = *random.one(&[&0, &0xff, &0x7f, &0x80, &b'0', &b' '])),
        8 if !inputs.is_empty() => {
            let other = &inputs[random.below(inputs.len())];
            changed.truncate(place);
            changed.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        _ => drop(changed.splice(place..place + reach, (0..reach).map(|_| random.next() as u8).collect::<Vec<_>>())),
    }
    changed
}

/// One part between separators changed, or the parts themselves left out, doubled, exchanged.
fn lines(input: &[u8], separator: u8, random: &mut Random, change: impl Fn(&[u8], &mut Random) -> Vec<u8>) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = input.split(|&byte| byte == separator).map(<[u8]>::to_vec).collect();
    let (place, other) = (random.below(parts.len()), random.below(parts.len()));
    match random.below(12) {
        0 => drop(parts.remove(place)),
        1 => parts.insert(place, parts[other].clone()),
        2 => parts.swap(place, other),
        3 => parts[place] = parts[place].repeat(random.length(300)),
        4 => parts.insert(place, Vec::new()),
        _ => parts[place] = change(&parts[place], random),
    }
    parts.join(&separator)
}

fn text(input: &[u8], pieces: &[&str], random: &mut Random) -> Vec<u8> {
    let mut made = if random.chance(2) { input.to_vec() } else { Vec::new() };
    match random.below(8) {
        0 => return bytes(input, &[], random),
        // The deep and the long: one piece, or two in turn, again and again.
        1 => {
            let (first, second) = (random.one(pieces), random.one(pieces));
            let piece = if random.chance(2) { first.to_owned() } else { [first, second].concat() };
            let most = if random.chance(8) { 200_000 } else { 2_000 };
            made.extend(piece.repeat(random.length(most / piece.len().max(1))).bytes());
            made.extend(random.one(pieces).bytes());
        }
        _ => {
            for _ in 0..random.length(24) {
                let place = random.below(made.len() + 1);
                let piece = if random.chance(12) { string(random) } else { random.one(pieces).to_owned() };
                made.splice(place..place, piece.bytes());
            }
        }
    }
    made
}

/// JSON that is strange, or none at all, in place of a value.
fn raw(old: &Value, random: &mut Random) -> String {
    const NUMBERS: &[&str] = &[
        "-1",
        "0",
        "1",
        "2",
        "3",
        "-0",
        "-0.0",
        "1e308",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "1.5",
        "1e-400",
        "5e-324",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "340282366920938463463374607431768211456",
        "4294967295",
        "4294967296",
        "2147483647",
        "2147483648",
        "16777216",
        "16777217",
        "1000000000",
        "1e9",
        "00",
        "1.",
        "+1",
        "0x10",
        "",
    ];
    match random.below(12) {
        0 => random.one(&["null", "true", "false", "[]", "{}", "[[]]", "[null]", "{\"a\": 1}"]).to_owned(),
        1 => serde_json::to_string(&string(random)).unwrap(),
        2 => random.one(&["\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\\u0000\"", "\"\\x\"", "\"\t\"", "\"", "'a'", "\"\\u\""]).to_owned(),
        3 => {
            let most = if random.chance(10) { 100_000 } else { 200 };
            let depth = random.length(most);
            let (open, close) = random.one(&[&("[", "]"), &("{\"a\":", "}"), &("[", ""), &("[1,", "]")]);
            format!("{}0{}", open.repeat(depth), close.repeat(depth))
        }
        4 => old.to_string(),
        5 => format!("[{old}, {old}]"),
        _ => match old {
            Value::Number(number) if random.chance(3) => {
                let number = number.as_f64().unwrap_or_default();
                random.one(&[&(number + 1.0), &(number - 1.0), &-number, &(number * 2.0), &(number / 2.0), &(number + 1e-9)]).to_string()
            }
            Value::String(text) if random.chance(2) => {
                let changed = bytes(text.as_bytes(), &[], random);
                serde_json::to_string(&String::from_utf8_lossy(&changed)).unwrap()
            }
            Value::Bool(flag) if random.chance(2) => (!flag).to_string(),
            _ => random.one(NUMBERS).to_owned(),
        },
    }
}

fn string(random: &mut Random) -> String {
    let long = if random.chance(20) { 100_000 } else { 300 };
    match random.below(9) {
        0 => String::new(),
        1 => random.one(&["a", "é", "🦀", " ", "*", "(", "\u{301}", "\\", "▁", "0"]).repeat(random.length(long)),
        2 => {
            random.one(&["../../../etc/passwd", "/etc/passwd", "/dev/zero", ".", "..", "~", "C:\\a", "a/b", "model.safetensors"]).to_owned()
        }
        3 => random
            .one(&["(a+)+$", "(a{1000}){1000}", "[", "(?<x", "\\", "a{,5}", "(?i)x|", ".*", "^(.*.*.*)*$", "\\p{Xyz}", "(?!a)"])
            .to_owned(),
        4 => random.one(&["NaN", "inf", "-1", "1e999", "null", "true", "0", "18446744073709551616"]).to_owned(),
        5 => random.one(&["\0", "\n\n", "\r", "\u{feff}", "\u{2028}", "\u{202e}", "\t", "`", "<script>", "%s"]).to_owned(),
        6 => (0..random.length(40)).filter_map(|_| char::from_u32(random.below(0x11_0000) as u32)).collect(),
        7 => random.one(&["F16", "BF16", "I64", "F32", "F64", "BOOL", "U8", "LORA", "Float", "BPE", "Unigram", "label"]).to_owned(),
        _ => random
            .one(&["####", "\\boxed{", "<X>", "{", "}", "\"", ",", "model.layers.*", "q_proj", "<s>", "Ġ"])
            .repeat(random.length(long / 16)),
    }
}

/// What stands for raw text until the value is written.
const MARK: &str = "\u{1}raw\u{1}";

fn json_text(input: &[u8], random: &mut Random) -> Vec<u8> {
    match serde_json::from_slice::<Value>(input) {
        Ok(mut value) => changed_json(&mut value, random).into_bytes(),
        Err(_) => bytes(input, &[], random),
    }
}

/// The value with one change, as text.
pub fn changed_json(value: &mut Value, random: &mut Random) -> String {
    let nodes = count(value);
    let old_other = nth(value, &mut random.below(nodes)).map(|node| node.clone()).unwrap_or_default();
    let mut place = random.below(nodes);
    let mut raw_text = None;
    if let Some(node) = nth(value, &mut place) {
        match node {
            Value::Object(map) if !map.is_empty() && !random.chance(6) => {
                let keys: Vec<String> = map.keys().cloned().collect();
                let (key, other) = (keys[random.below(keys.len())].clone(), keys[random.below(keys.len())].clone());
                match random.below(6) {
                    0 => drop(map.remove(&key)),
                    1 => drop(map.insert(string(random), old_other)),
                    2 => exchange(map, &key, &other),
                    3 => {
                        let value = map.remove(&key).unwrap_or_default();
                        map.insert(string(random), value);
                    }
                    _ => {
                        // The same key twice: which of the two holds?
                        let value = map.get(&key).cloned().unwrap_or_default();
                        raw_text = Some(format!("{}, {}: {value}", raw(&value, random), serde_json::to_string(&key).unwrap()));
                        map.insert(key, MARK.into());
                    }
                }
            }
            Value::Array(list) if !list.is_empty() && !random.chance(6) => {
                let (place, other) = (random.below(list.len()), random.below(list.len()));
                match random.below(5) {
                    0 => drop(list.remove(place)),
                    1 => list.swap(place, other),
                    2 => list.insert(place, old_other),
                    3 => list.extend(std::iter::repeat_n(list[place].clone(), random.length(if list.len() < 50 { 200 } else { 2 }))),
                    _ => list.truncate(place),
                }
            }
            node if random.chance(8) => *node = old_other,
            node => {
                raw_text = Some(raw(node, random));
                *node = MARK.into();
            }
        }
    }
    let text = if random.chance(8) { serde_json::to_string_pretty(&*value) } else { serde_json::to_string(&*value) }.unwrap();
    match raw_text {
        Some(raw) => text.replace(&serde_json::to_string(MARK).unwrap(), &raw),
        None => text,
    }
}

fn exchange(map: &mut Map<String, Value>, one: &str, other: &str) {
    let (first, second) = (map.get(one).cloned().unwrap_or_default(), map.get(other).cloned().unwrap_or_default());
    map.insert(one.into(), second);
    map.insert(other.into(), first);
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The node at a place in the order of [`count`].
fn nth<'v>(value: &'v mut Value, place: &mut usize) -> Option<&'v mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|inner| nth(inner, place)),
        Value::Object(map) => map.iter_mut().find_map(|(_, inner)| nth(inner, place)),
        _ => None,
    }
}

/// `None` for what is none to begin with.
fn safetensors(input: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let length = usize::try_from(u64::from_le_bytes(input.get(..8)?.try_into().ok()?)).ok()?;
    let header = input.get(8..8usize.checked_add(length)?)?;
    let mut data = input[8 + length..].to_vec();
    let mut header: Value = serde_json::from_slice(header).ok()?;
    let tensors = header.as_object()?.iter().filter(|(key, entry)| *key != "__metadata__" && entry.is_object());
    let names: Vec<String> = tensors.map(|(key, _)| key.clone()).collect();
    // A change before this one may have left none.
    names.first()?;
    let (one, other) = (names[random.below(names.len())].clone(), names[random.below(names.len())].clone());
    let mut written = None;
    match random.below(10) {
        // The manifests that stand as text in the metadata.
        0..3 => {
            let texts = header.get_mut("__metadata__").and_then(Value::as_object_mut);
            let texts = texts.filter(|texts| !texts.is_empty());
            if let Some(texts) = texts {
                let keys: Vec<String> = texts.keys().cloned().collect();
                let key = &keys[random.below(keys.len())];
                let text = texts[key].as_str().unwrap_or_default().to_owned();
                let inner = json_text(text.as_bytes(), random);
                texts[key] = String::from_utf8_lossy(&inner).into_owned().into();
            } else {
                written = Some(changed_json(&mut header, random));
            }
        }
        3 => written = Some(changed_json(&mut header, random)),
        4 if !data.is_empty() => {
            for _ in 0..random.length(4) {
                let place = random.below(data.len());
                data[place] ^= 1 << random.below(8);
            }
        }
        // A whole number of NaN, infinity, the largest.
        5 if data.len() >= 4 => {
            let place = random.below(data.len() / 4) * 4;
            let number = random.one(&[&f32::NAN, &f32::INFINITY, &f32::MAX, &-1.0, &0.0]);
            data[place..place + 4].copy_from_slice(&number.to_le_bytes());
        }
        6 => header[&one]["dtype"] = random.one(&["F16", "BF16", "F32", "I32", "I64", "F64", "U8", "BOOL", "F8_E4M3", "C64"]).into(),
        7 => {
            let (first, second) = (header[&one]["data_offsets"].clone(), header[&other]["data_offsets"].clone());
            (header[&one]["data_offsets"], header[&other]["data_offsets"]) = (second, first);
        }
        8 => {
            let map = header.as_object_mut()?;
            match random.below(3) {
                0 => exchange(map, &one, &other),
                1 => drop(map.remove(&one)),
                _ => {
                    let moved = map.remove(&one)?;
                    let name = if random.chance(2) { string(random) } else { format!("{one}x") };
                    map.insert(name, moved);
                }
            }
        }
        _ => {
            let lengths =
                [0, 1, length as u64 - 1, length as u64 + 1, 1 << 32, 100_000_001, u64::MAX, u64::MAX - 7, 1 << 63, input.len() as u64];
            let mut changed = input.to_vec();
            changed[..8].copy_from_slice(&lengths[random.below(lengths.len())].to_le_bytes());
            return Some(changed);
        }
    }
    let mut text = written.unwrap_or_else(|| header.to_string()).into_bytes();
    // Aligned as the format asks, or not.
    while !random.chance(50) && !text.len().is_multiple_of(8) {
        text.push(b' ');
    }
    Some([&(text.len() as u64).to_le_bytes(), text.as_slice(), &data].concat())
}
