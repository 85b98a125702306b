use super::*;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::json;

type Row<'a> = (&'a str, Dtype, &'a [usize], Vec<u8>);

fn f32s(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The upper halves of f32: bf16 for numbers that it can hold.
fn bf16s(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()[2..].to_vec()).collect()
}

fn write(path: &Path, rows: &[Row<'_>]) {
    let views = rows.iter().map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

/// A folder whose `model.safetensors` holds the rows.
fn folder(rows: &[Row<'_>]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("model.safetensors"), rows);
    folder
}

/// Two small weights.
fn pair() -> Vec<Row<'static>> {
    vec![("a.weight", Dtype::F32, &[2, 3], f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), ("b.bias", Dtype::BF16, &[2], bf16s(&[0.5, -2.0]))]
}

fn open(folder: &Path) -> Result<Weights> {
    Weights::open(folder, Device::Cpu, None)
}

/// The folder with two shards of [`pair`] and their index, which `change` may spoil.
fn sharded(change: impl FnOnce(&Path, &mut serde_json::Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows = pair();
    write(&folder.path().join("one.safetensors"), &rows[..1]);
    write(&folder.path().join("two.safetensors"), &rows[1..]);
    let mut index = json!({"metadata": {"total_size": 28}, "weight_map": {"a.weight": "one.safetensors", "b.bias": "two.safetensors"}});
    change(folder.path(), &mut index);
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    folder
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_kind(Kind::Float).view([-1])).unwrap()
}

fn says<T>(result: Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("this must fail and say {parts:?}") };
    let text = error.to_string();
    assert!(error.is_file(), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn values_shapes_and_kinds_survive() {
    let half = [0x00, 0x3c, 0x00, 0xc1];
    let mut rows = pair();
    rows.push(("c", Dtype::F16, &[2, 1], half.to_vec()));
    rows.push(("scalar", Dtype::F32, &[], f32s(&[7.5])));
    let folder = folder(&rows);
    let mut weights = open(folder.path()).unwrap();
    assert_eq!(weights.names(), ["a.weight", "b.bias", "c", "scalar"]);
    assert_eq!((weights.bytes(), weights.shape("a.weight"), weights.shape("d")), (24 + 4 + 4 + 4, Some(vec![2, 3]), None));
    let a = weights.take("a.weight", &[2, 3]).unwrap();
    let b = weights.take("b.bias", &[2]).unwrap();
    let c = weights.take("c", &[2, 1]).unwrap();
    let scalar = weights.take("scalar", &[]).unwrap();
    weights.finish().unwrap();
    // The tensors must not lean on the file.
    drop(folder);
    assert_eq!((numbers(&a), a.kind(), a.size()), (vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], Kind::Float, vec![2, 3]));
    assert_eq!((numbers(&b), b.kind()), (vec![0.5, -2.0], Kind::BFloat16));
    assert_eq!((numbers(&c), c.kind(), c.size()), (vec![1.0, -2.5], Kind::Half, vec![2, 1]));
    assert_eq!((numbers(&scalar), scalar.requires_grad()), (vec![7.5], false));
}

#[test]
fn a_kind_may_be_asked_for() {
    let folder = folder(&pair());
    let mut weights = Weights::open(folder.path(), Device::Cpu, Some(Kind::BFloat16)).unwrap();
    let a = weights.take("a.weight", &[2, 3]).unwrap();
    assert_eq!((a.kind(), numbers(&a)), (Kind::BFloat16, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let error = Weights::open(folder.path(), Device::Cpu, Some(Kind::Int64)).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("Int64"), "{error}");
}

#[test]
fn a_weight_larger_than_the_pieces_arrives_whole() {
    // Three pieces of copying and a rest, behind a first tensor that shifts it off every alignment.
    let expected: Vec<f32> = (0..3 * (1 << 20) + 17).map(|index| index as f32).collect();
    let folder = folder(&[("big", Dtype::F32, &[expected.len()], f32s(&expected)), ("odd", Dtype::BF16, &[1], bf16s(&[1.0]))]);
    let mut weights = open(folder.path()).unwrap();
    assert_eq!(numbers(&weights.take("big", &[expected.len() as i64]).unwrap()), expected);
}

#[test]
fn missing_misshaped_and_unused_weights_are_named() {
    let folder = folder(&pair());
    let mut weights = open(folder.path()).unwrap();
    says(weights.take("c.weight", &[1]), &["1 of the weights are missing: `c.weight`", "do not belong together"]);
    says(weights.take("a.weight", &[3, 2]), &["`a.weight` (needed [3, 2], found [2, 3])"]);
    says(weights.check(&[("x".into(), vec![1]), ("y".into(), vec![1])]), &["2 of the weights are missing: `x`, `y`"]);
    says(weights.check(&[("b.bias".into(), vec![3])]), &["`b.bias` (needed [3], found [2])"]);
    weights.check(&[("a.weight".into(), vec![2, 3])]).unwrap();
    let _ = weights.take("a.weight", &[2, 3]).unwrap();
    assert!(weights.take("a.weight", &[2, 3]).unwrap_err().is_internal());
    says(weights.finish(), &["no place for 1 of the stored weights: `b.bias`"]);
}

#[test]
fn every_missing_and_misshaped_weight_is_named() {
    let folder = folder(&pair());
    let mut expected: Vec<(String, Vec<i64>)> = (0..20).map(|index| (format!("w{index:02}"), vec![1])).collect();
    let layers = (0..12).filter(|layer| *layer != 5).map(|layer| (format!("model.layers.{layer}.mlp.up_proj.weight"), vec![1]));
    expected.extend(layers);
    expected.extend([("a.weight".into(), vec![3, 2]), ("b.bias".into(), vec![2])]);
    let layers = "31 of the weights are missing: `w00`, `w01`";
    says(
        open(folder.path()).unwrap().check(&expected),
        &[layers, "`w19`, `model.layers.{0-4, 6-11}.mlp.up_proj.weight`", "`a.weight` (needed [3, 2]"],
    );
}

#[test]
fn weights_of_several_kinds_need_one_kind_asked_for() {
    let folder = folder(&pair());
    let expected = [("a.weight".to_owned(), vec![2, 3]), ("b.bias".to_owned(), vec![2])];
    let check = |kind| Weights::open(folder.path(), Device::Cpu, kind).unwrap().check(&expected);
    says(check(None), &["of several kinds, stored as BF16 `b.bias`, the other 1 as F32", "OpenOptions::new().kind"]);
    check(Some(Kind::Float)).unwrap();
    // What the configuration does not ask for is not looked at.
    open(folder.path()).unwrap().check(&expected[..1]).unwrap();
}

/// Makes the header of a file say another kind.
fn relabelled(folder: &Path, from: &str, to: &str) {
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..end].to_vec()).unwrap();
    let changed = header.replace(&format!("\"dtype\":\"{from}\""), &format!("\"dtype\":\"{to}\""));
    assert_ne!(header, changed);
    bytes.splice(..end, (changed.len() as u64).to_le_bytes().into_iter().chain(changed.into_bytes()));
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_header_that_mistakes_the_kind_is_found() {
    // Real models (in shared), and random ones: true files pass, and the same bytes under the other kind do not.
    let golden = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/tiny-icl");
    let stories = crate::tokenizer::tests::shared("models/stories260K");
    for source in [Some(golden("llama_bf16")), Some(golden("qwen3_f16")), Some(bundled), stories].into_iter().flatten() {
        let config = crate::model::config::Config::open(&source).unwrap();
        for (kind, said, other) in [(Kind::BFloat16, "BF16", "F16"), (Kind::Half, "F16", "BF16")] {
            let mut weights = Weights::open(&source, Device::Cpu, Some(kind)).unwrap();
            let tensors: Vec<(String, Tensor)> =
                config.weights().into_iter().map(|(name, shape)| (name.clone(), weights.take(&name, &shape).unwrap())).collect();
            let folder = tempfile::tempdir().unwrap();
            Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
            open(folder.path()).unwrap().check(&config.weights()).unwrap();
            relabelled(folder.path(), said, other);
            let wrong = open(folder.path()).unwrap().check(&config.weights());
            says(wrong, &[&format!("its header says {other}"), &format!("make sense only as {said}")]);
        }
    }
    // Strange numbers that are what they say.
    let plain = |values: Tensor, kind| {
        let folder = tempfile::tempdir().unwrap();
        Tensor::write_safetensors(&[("w", values.view([32, 32]).to_kind(kind))], folder.path().join("model.safetensors")).unwrap();
        open(folder.path()).unwrap().check(&[("w".into(), vec![32, 32])]).unwrap();
    };
    let steps = Tensor::arange(1024, (Kind::Double, Device::Cpu));
    for kind in [Kind::BFloat16, Kind::Half] {
        plain(steps.zeros_like(), kind);
        plain(steps.ones_like(), kind);
        plain(steps.remainder(3) - 1.0, kind);
        plain(steps.remainder(2) * 2.0 - 1.0, kind);
        plain(&steps / 1024.0 - 0.5, kind);
        plain((&steps / -64.0).exp2(), kind);
        plain(steps.shallow_clone(), kind);
    }
}

#[test]
fn hints_tell_why_a_weight_is_missing() {
    let head = ("lm_head.weight".to_owned(), vec![1]);
    let one = |name| folder(&[(name, Dtype::F32, &[1], f32s(&[1.0]))]);
    let weights = |folder: &tempfile::TempDir| open(folder.path()).unwrap();
    says(weights(&one("model.embed_tokens.weight")).check(&[head]), &["tie_word_embeddings"]);
    let embedding = ("model.embed_tokens.weight".to_owned(), vec![1]);
    says(weights(&one("embed_tokens.weight")).check(std::slice::from_ref(&embedding)), &["without its output layer"]);
    says(weights(&one("base_model.model.q_proj.lora_A.weight")).check(&[embedding]), &["an adapter's weights"]);
}

#[test]
fn stored_copies_and_frequencies_are_tolerated_and_differing_heads_are_not() {
    let rows = |head: f32| {
        vec![
            ("model.embed_tokens.weight", Dtype::F32, &[2][..], f32s(&[1.0, 2.0])),
            ("lm_head.weight", Dtype::F32, &[2], f32s(&[1.0, head])),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", Dtype::F32, &[1], f32s(&[1.0])),
        ]
    };
    let finish = |head: f32| {
        let folder = folder(&rows(head));
        let mut weights = open(folder.path()).unwrap();
        let _ = weights.take("model.embed_tokens.weight", &[2]).unwrap();
        weights.finish()
    };
    finish(2.0).unwrap();
    says(finish(3.0), &["`lm_head.weight` is stored and differs", "tie_word_embeddings"]);
    // Without an embedding to compare with, a head is a weight like any other.
    says(open(folder(&rows(2.0)).path()).unwrap().finish(), &["`lm_head.weight`, `model.embed_tokens.weight`"]);
}

#[test]
fn nan_and_infinity_are_named_and_large_sums_are_not() {
    for (dtype, bytes) in [
        (Dtype::F32, f32s(&[1.0, f32::NAN])),
        (Dtype::F32, f32s(&[f32::INFINITY, f32::NEG_INFINITY])),
        (Dtype::BF16, bf16s(&[f32::NEG_INFINITY, 0.0])),
        (Dtype::F16, vec![0x01, 0x7c, 0x00, 0x00]),
    ] {
        let folder = folder(&[("w", dtype, &[2], bytes)]);
        let error = open(folder.path()).unwrap().take("w", &[2]).unwrap_err();
        let text = error.to_string();
        assert!(error.is_numeric() && text.contains("the weight `w` in") && text.contains("of 2 places"), "{text}");
    }
    let folder = folder(&[("w", Dtype::F32, &[2], f32s(&[f32::MAX, f32::MAX]))]);
    let _ = open(folder.path()).unwrap().take("w", &[2]).unwrap();
    let error = Weights::open(folder.path(), Device::Cpu, Some(Kind::Half)).unwrap().take("w", &[2]).unwrap_err();
    assert!(error.is_numeric() && error.to_string().contains("converted to Half, holds NaN or infinity in 2 of 2"), "{error}");
}

#[test]
fn other_kinds_on_disk_are_refused_by_name() {
    for (dtype, size, name) in [(Dtype::F64, 8, "F64"), (Dtype::I64, 8, "I64"), (Dtype::U8, 1, "U8"), (Dtype::F8_E4M3, 1, "F8_E4M3")] {
        let folder = folder(&[("w", dtype, &[2], vec![0; 2 * size])]);
        says(open(folder.path()).unwrap().take("w", &[2]), &["`w`", name, "only F32, BF16 and F16"]);
    }
}

#[test]
fn files_that_are_no_safetensors_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, &pair());
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let absurd = [&u64::MAX.to_le_bytes()[..], b"{\"a\": 1}"].concat();
    let long = [&(1_u64 << 33).to_le_bytes()[..], b"____"].concat();
    let no_json = [&4_u64.to_le_bytes()[..], b"{a:}"].concat();
    let mut overlap = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#.to_vec();
    overlap = [&(overlap.len() as u64).to_le_bytes()[..], &overlap, &[0; 4]].concat();
    let mut huge = br#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#.to_vec();
    huge = [&(huge.len() as u64).to_le_bytes()[..], &huge].concat();
    let grown = [&whole[..], b"tail"].concat();
    for (bytes, parts) in [
        (&b""[..], &["is empty", "download it again"][..]),
        (b"abc", &["not a valid safetensors file"]),
        (b"version https://git-lfs\noid sha256:0", &["git lfs pull"]),
        (b"<!DOCTYPE html><html></html>", &["a web page"]),
        (b"PK\x03\x04archive/data.pkl", &["a Python pickle under"]),
        (&absurd, &["not a valid safetensors file", "header"]),
        (&long, &["not a valid safetensors file", "header"]),
        (&no_json, &["not a valid safetensors file", "JSON"]),
        (&overlap, &["not a valid safetensors file"]),
        (&huge, &["not a valid safetensors file"]),
        (&whole[..header - 5], &["truncated inside its header"]),
        (&whole[..whole.len() - 1], &["is truncated: it holds", "download it again"]),
        (&whole[..header], &["is truncated: it holds"]),
        (&grown, &["describes only"]),
    ] {
        std::fs::write(&path, bytes).unwrap();
        says(open(folder.path()), parts);
        says(open(folder.path()), &["model.safetensors`"]);
    }
}

#[test]
fn a_file_cut_short_after_opening_is_noticed() {
    let folder = folder(&pair());
    let mut weights = open(folder.path()).unwrap();
    std::fs::OpenOptions::new().write(true).open(folder.path().join("model.safetensors")).unwrap().set_len(10).unwrap();
    says(weights.take("a.weight", &[2, 3]), &["was changed while it was being loaded"]);
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = sharded(|_, _| {});
    let mut weights = open(folder.path()).unwrap();
    assert_eq!(weights.names(), ["a.weight", "b.bias"]);
    assert_eq!(numbers(&weights.take("b.bias", &[2]).unwrap()), [0.5, -2.0]);
    assert_eq!(numbers(&weights.take("a.weight", &[2, 3]).unwrap()).len(), 6);
    weights.finish().unwrap();
}

#[test]
fn numbered_shards_need_no_index() {
    let names = |count: usize| (1..=count).map(move |number| format!("model-{number:05}-of-{count:05}.safetensors")).collect::<Vec<_>>();
    let folder = |files: &[(&str, Vec<Row<'_>>)]| {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, rows)| write(&folder.path().join(name), rows));
        folder
    };
    let (two, three, rows) = (names(2), names(3), pair());
    let halves = || [rows[..1].to_vec(), rows[1..].to_vec()];
    let [a, b] = halves();
    let whole = folder(&[(&two[0], a.clone()), (&two[1], b.clone())]);
    let mut weights = open(whole.path()).unwrap();
    assert_eq!(weights.names(), ["a.weight", "b.bias"]);
    assert_eq!(numbers(&weights.take("b.bias", &[2]).unwrap()), [0.5, -2.0]);
    let lacking = folder(&[(&three[0], a.clone()), (&three[2], b.clone())]);
    says(open(lacking.path()), &["no `model.safetensors.index.json`", "1 of its 3 shards are missing, number 2", "download the index"]);
    says(open(folder(&[(&two[0], a.clone()), (&three[1], b.clone())]).path()), &["of different sets"]);
    says(
        open(folder(&[(&two[0], a.clone()), (&two[1], rows.clone())]).path()),
        &["both `model-00001-of-00002", "hold a tensor `a.weight`"],
    );
    says(open(folder(&[("model-1-of-2.safetensors", a.clone()), (&two[0], a.clone()), (&two[1], b)]).path()), &["more than one file"]);
    says(open(folder(&[("weights.safetensors", a)]).path()), &["neither `model.safetensors` nor", "but `weights.safetensors`"]);
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let opened = |change: fn(&Path, &mut serde_json::Value)| open(sharded(change).path());
    let remove = |folder: &Path, _: &mut serde_json::Value| std::fs::remove_file(folder.join("two.safetensors")).unwrap();
    says(opened(remove), &["1 of the 2 shards that the index lists are missing: `two.safetensors`"]);
    says(opened(|_, index| index["weight_map"]["c"] = json!("three.safetensors")), &["1 of the 3 shards", "`three.safetensors`"]);
    says(opened(|_, index| index["weight_map"]["c"] = json!("one.safetensors")), &["lists tensors that are not in `one.safetensors`: `c`"]);
    let unlisted = |folder: &Path, _: &mut serde_json::Value| {
        let more: [Row<'_>; 2] = [pair().remove(0), ("extra", Dtype::F32, &[1], f32s(&[0.0]))];
        write(&folder.join("one.safetensors"), &more);
    };
    says(opened(unlisted), &["does not list these tensors of `one.safetensors`: `extra`"]);
    says(opened(|_, index| index["weight_map"] = json!({})), &["no `weight_map`"]);
    says(opened(|_, index| index["weight_map"]["a.weight"] = json!(3)), &["`a.weight` is not a string"]);
    says(opened(|_, index| *index = json!([1])), &["no `weight_map`"]);
    for path in ["../one.safetensors", "/etc/passwd", "a/../one.safetensors", "..", ""] {
        let folder = sharded(|_, index| index["weight_map"]["a.weight"] = json!(path));
        says(open(folder.path()), &["must be a plain file name in the same folder", "`a.weight`"]);
    }
    let folder = sharded(|_, _| {});
    std::fs::write(folder.path().join("model.safetensors.index.json"), "{\"weight_map\": {").unwrap();
    says(open(folder.path()), &["index.json` is not valid JSON"]);
    std::fs::write(folder.path().join("two.safetensors"), "").unwrap();
    says(open(sharded(|folder, _| std::fs::write(folder.join("two.safetensors"), "").unwrap()).path()), &["two.safetensors` is empty"]);
}

#[test]
fn a_folder_without_safetensors_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    says(open(folder.path()), &["neither `model.safetensors` nor"]);
    std::fs::write(folder.path().join("pytorch_model.bin"), b"PK").unwrap();
    says(open(folder.path()), &["`pytorch_model.bin`, a Python pickle", "save_pretrained"]);
    says(open(Path::new("/nowhere/at/all")), &["is not a folder"]);
    std::fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    says(open(folder.path()), &["a folder stands there", "put a regular file"]);
}

#[test]
fn the_real_model_s_weights_are_those_its_configuration_asks_for() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/models/stories260K");
    if !Path::new(folder).is_dir() {
        crate::skipped(&format!("`{folder}` is not there"));
        return;
    }
    let config = crate::model::config::Config::open(folder).unwrap();
    let mut weights = open(Path::new(folder)).unwrap();
    weights.check(&config.weights()).unwrap();
    for (name, shape) in config.weights() {
        assert_eq!(weights.take(&name, &shape).unwrap().size(), shape, "{name}");
    }
    weights.finish().unwrap();
}
