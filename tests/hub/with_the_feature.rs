//! A hub on this machine: what is asked of it, what comes, and what goes wrong.

mod trouble;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::common::golden_folder;
use super::server::{COMMIT, Hub, Reply, Seen, git, sha256};
use super::*;

const SINGLE: &str = "qwen3_grouped_tied";
const SHARDED: &str = "qwen3_sharded";
const WEIGHTS: &str = "model.safetensors";

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/tiny-icl")
}

fn open(hub: &Hub, home: &Path, name: &str) -> Result<String, String> {
    finish(start(&hub.address, home, name, &[]))
}

fn refused(hub: &Hub, home: &Path, words: &[&str]) -> String {
    let error = open(hub, home, "org/name").unwrap_err();
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is missing in: {error}"));
    error
}

fn expected(folder: &Path) -> String {
    fingerprint(&Model::open(folder).unwrap())
}

fn root(home: &Path) -> PathBuf {
    home.join("hub/models--org--name")
}

/// The names of the files under a folder, without what leads to them.
fn names(folder: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect());
    let mut names: Vec<String> = entries.unwrap_or_default();
    names.sort();
    names
}

/// The file names asked for with a method, in their order.
fn asked(seen: &[Seen], method: &str) -> Vec<String> {
    let asked = seen.iter().filter(|seen| seen.method == method);
    asked.map(|seen| seen.path.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

/// The first bytes that downloads of the weights began at.
fn begun(hub: &Hub) -> Vec<usize> {
    hub.seen().iter().filter(|seen| seen.at_store).map(|seen| seen.range.unwrap_or(0)).collect()
}

#[test]
fn a_model_is_downloaded_once_with_only_the_files_needed() {
    let (hub, home) = (Hub::of(&bundled()), tempfile::tempdir().unwrap());
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&bundled()));
    let seen = hub.seen();
    let needed = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS];
    assert_eq!(asked(&seen, "HEAD"), needed);
    assert_eq!(asked(&seen, "GET"), [&["main"], &needed[..], &[WEIGHTS]].concat());
    // The layout of the cache, content by content.
    let root = root(home.path());
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    let mut sorted = needed;
    sorted.sort_unstable();
    assert_eq!(names(root.join("snapshots").join(COMMIT)), sorted);
    let content = |name: &str| fs::read(bundled().join(name)).unwrap();
    for name in needed {
        let blob = if name == WEIGHTS { sha256(&content(name)) } else { git(&content(name)) };
        let link = root.join("snapshots").join(COMMIT).join(name);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("../../blobs").join(blob));
        assert_eq!(fs::read(link).unwrap(), content(name));
    }
    assert_eq!(names(root.join("blobs")).len(), needed.len());
    // What is there is not asked for again, at whatever revision it goes by.
    for name in ["org/name", &format!("org/name@{COMMIT}")] {
        assert_eq!(open(&hub, home.path(), name).unwrap(), expected(&bundled()));
        assert!(hub.seen().is_empty());
    }
    // Nor what Python leaves no note of: that there is no chat template.
    fs::remove_dir_all(root.join(".no_exist")).unwrap();
    open(&hub, home.path(), "org/name").unwrap();
    assert!(hub.seen().is_empty());
    // A cache from before these were asked for is completed: the end of an answer is named there.
    fs::remove_file(root.join("snapshots").join(COMMIT).join("tokenizer_config.json")).unwrap();
    open(&hub, home.path(), "org/name").unwrap();
    assert_eq!(asked(&hub.seen(), "GET"), ["main"]);
    assert_eq!(names(root.join("snapshots").join(COMMIT)), sorted);
    // Another revision with the same content costs no content.
    assert_eq!(open(&hub, home.path(), "org/name@refs/pr/1").unwrap(), expected(&bundled()));
    let seen = hub.seen();
    assert_eq!(asked(&seen, "GET"), ["refs%2Fpr%2F1"]);
    assert_eq!(fs::read_to_string(root.join("refs/refs/pr/1")).unwrap(), COMMIT);
}

#[test]
fn a_gguf_file_is_downloaded_by_its_name() {
    let (hub, home) = (Hub::of(&golden_folder("gguf")), tempfile::tempdir().unwrap());
    let error = refused(&hub, home.path(), &["as GGUF it has", "`llama.gguf`", "name one of these, like `org/name/<file>`"]);
    assert!(!error.contains("bug"), "{error}");
    let error = open(&hub, home.path(), "org/name/other.gguf").unwrap_err();
    assert!(error.contains("it has no file `other.gguf`: as GGUF it has `") && error.contains("`llama.gguf`"), "{error}");
    hub.seen();
    let expected = expected(&golden_folder("gguf").join("qwen2.gguf"));
    assert_eq!(open(&hub, home.path(), "org/name/qwen2.gguf").unwrap(), expected);
    assert_eq!(asked(&hub.seen(), "GET"), ["main", "qwen2.gguf"]);
    assert_eq!(names(root(home.path()).join("snapshots").join(COMMIT)), ["qwen2.gguf"]);
    // What is there is not asked for again, by the file's name or as the only one.
    for name in ["org/name/qwen2.gguf", "org/name"] {
        assert_eq!(open(&hub, home.path(), name).unwrap(), expected);
        assert!(hub.seen().is_empty());
    }
    let offline = finish(start(&hub.address, home.path(), "org/name/llama.gguf", &[("HF_HUB_OFFLINE", "1")])).unwrap_err();
    assert!(offline.contains("HF_HUB_OFFLINE") && hub.seen().is_empty(), "{offline}");
}

#[test]
fn shards_come_with_their_index() {
    let (hub, home) = (Hub::of(&golden_folder(SHARDED)), tempfile::tempdir().unwrap());
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SHARDED)));
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(
        asked(&hub.seen(), "HEAD"),
        [&["config.json", "generation_config.json", "model.safetensors.index.json"], &shards[..]].concat()
    );
    // It has no tokenizer, and the cache knows.
    let absent = ["chat_template.jinja", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(root(home.path()).join(".no_exist").join(COMMIT)), absent);
    open(&hub, home.path(), "org/name").unwrap();
    assert!(hub.seen().is_empty());
    // One shard is lost: it alone is fetched again.
    let snapshot = root(home.path()).join("snapshots").join(COMMIT);
    fs::remove_file(fs::canonicalize(snapshot.join(shards[1])).unwrap()).unwrap();
    open(&hub, home.path(), "org/name").unwrap();
    assert_eq!(asked(&hub.seen().into_iter().filter(|seen| seen.at_store).collect::<Vec<_>>(), "GET"), [shards[1]]);
}

#[test]
fn shards_without_an_index_come_all_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    for name in ["config.json", shards[0], shards[1]] {
        fs::copy(golden_folder(SHARDED).join(name), folder.path().join(name)).unwrap();
    }
    let (hub, home) = (Hub::of(folder.path()), tempfile::tempdir().unwrap());
    assert_eq!(open(&hub, home.path(), "org/name").unwrap(), expected(&golden_folder(SHARDED)));
    assert_eq!(asked(&hub.seen(), "HEAD"), [&["config.json"], &shards[..]].concat());
    // What is there is known as whole.
    open(&hub, home.path(), "org/name").unwrap();
    assert!(hub.seen().is_empty());
    fs::remove_file(folder.path().join(shards[0])).unwrap();
    let empty = tempfile::tempdir().unwrap();
    refused(&Hub::of(folder.path()), empty.path(), &["no `model.safetensors.index.json`", "1 of its 2 shards are missing, number 1"]);
    assert!(names(empty.path().to_owned()).is_empty());
}

#[test]
fn refusals_say_what_to_do() {
    let always = |reply: Reply| move |_: &Seen, _: usize, _: Reply| reply.clone();
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::of(&golden_folder(SINGLE));
    let cases: [(Reply, &[&str]); 6] = [
        (Reply::status(401).header("X-Error-Code", "GatedRepo"), &["HTTP 401", "gated", "no token is set", "/org/name", "HF_TOKEN"]),
        (Reply::status(403).header("X-Error-Message", "Ask the authors"), &["HTTP 403", "it says: Ask the authors"]),
        (Reply::status(404), &["`org/name` is not at 127.0.0.1", "check the name"]),
        (Reply::status(404).header("X-Error-Code", "RevisionNotFound"), &["has no revision `main`", "/tree/main"]),
        (Reply::status(429).header("Retry-After", "3600"), &["HTTP 429", "wait for 3600 s"]),
        (Reply { status: 200, ..Reply::default() }, &["does not answer as a hub does", "HF_ENDPOINT"]),
    ];
    let mut hub = hub;
    for (reply, words) in cases {
        hub = hub.with(always(reply));
        refused(&hub, home.path(), words);
        assert_eq!(hub.seen().len(), 1, "asked again in vain");
    }
    // A redirect without end, or to no address.
    for (to, requests) in [("/again", 8), ("gopher", 1)] {
        hub = hub.with(always(Reply::status(307).header("Location", to)));
        refused(&hub, home.path(), &["redirects"]);
        assert_eq!(hub.seen().len(), requests);
    }
    assert!(names(home.path().to_owned()).is_empty(), "a refused model leaves nothing");
    let error = finish(start("http://127.0.0.1:9", home.path(), "org/name", &[])).unwrap_err();
    assert!(error.contains("tried 5 times") && error.contains("http://127.0.0.1:9") && error.contains("check the network"), "{error}");
    let error = finish(start("ftp://127.0.0.1", home.path(), "org/name", &[])).unwrap_err();
    assert!(error.contains("HF_ENDPOINT must be"), "{error}");
}

#[test]
fn offline_nothing_is_asked() {
    let (hub, home) = (Hub::of(&golden_folder(SINGLE)), tempfile::tempdir().unwrap());
    let offline = |name| finish(start(&hub.address, home.path(), name, &[("HF_HUB_OFFLINE", "1")]));
    let error = offline("org/name").unwrap_err();
    assert!(error.contains("HF_HUB_OFFLINE") && error.contains("Hugging Face cache"), "{error}");
    assert!(hub.seen().is_empty());
    open(&hub, home.path(), "org/name").unwrap();
    hub.seen();
    // A cache that Python has filled need not say that there is no tokenizer.
    fs::remove_dir_all(root(home.path()).join(".no_exist")).unwrap();
    assert_eq!(offline("org/name").unwrap(), expected(&golden_folder(SINGLE)));
    assert!(hub.seen().is_empty());
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::of(&golden_folder(SINGLE));
    finish(start(&hub.address, home.path(), "org/name", &[("HF_TOKEN", TOKEN)])).unwrap();
    let seen = hub.seen();
    let bearer = format!("Bearer {TOKEN}");
    assert!(seen.iter().any(|seen| seen.at_store));
    for seen in &seen {
        assert_eq!(seen.token.as_ref(), (!seen.at_store).then_some(&bearer), "{seen:?}");
    }
    // A hub that says it aloud: `finish` looks for it in all that is printed.
    let hub = hub.with(|_, _, _| Reply::status(403).header("X-Error-Message", format!("{TOKEN} may not")));
    let empty = tempfile::tempdir().unwrap();
    let error = finish(start(&hub.address, empty.path(), "org/name", &[("HF_TOKEN", TOKEN)])).unwrap_err();
    assert!(error.contains("it says: *** may not") && error.contains("is not enough"), "{error}");
    // The address that the hub redirected to is signed, and not shown either.
    let hub = hub.with(|seen, _, reply| if seen.at_store { Reply::status(403) } else { reply });
    let error = finish(start(&hub.address, empty.path(), "org/name", &[("HF_TOKEN", TOKEN)])).unwrap_err();
    assert!(error.contains("HTTP 403") && !error.contains("signature"), "{error}");
}

#[test]
fn a_model_that_was_renamed_is_found_with_the_token() {
    let moved = |seen: &Seen, _: usize, reply: Reply| match seen.path.contains("/org/old/") {
        true => Reply::status(307).header("Location", seen.path.replace("/org/old/", "/org/name/")),
        false => reply,
    };
    let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(moved), tempfile::tempdir().unwrap());
    let opened = finish(start(&hub.address, home.path(), "org/old", &[("HF_TOKEN", TOKEN)]));
    assert_eq!(opened.unwrap(), expected(&golden_folder(SINGLE)));
    let seen = hub.seen();
    assert!(seen.iter().all(|seen| seen.token.is_some() != seen.at_store));
    assert!(home.path().join("hub/models--org--old/refs/main").exists());
}

#[test]
fn two_processes_download_a_file_once() {
    let slow = |seen: &Seen, _: usize, reply: Reply| {
        let pause = Duration::from_millis(if seen.at_store { 3000 } else { 0 });
        Reply { pause, ..reply }
    };
    let (hub, home) = (Hub::of(&golden_folder(SINGLE)).with(slow), tempfile::tempdir().unwrap());
    let children = [(); 3].map(|()| start(&hub.address, home.path(), "org/name", &[]));
    for child in children {
        assert_eq!(finish(child).unwrap(), expected(&golden_folder(SINGLE)));
    }
    assert_eq!(begun(&hub), [0]);
}

#[test]
fn pickles_are_refused_before_anything_is_downloaded() {
    let files = |names: &[&str]| Hub::serve(names.iter().map(|name| ((*name).to_owned(), b"{}".to_vec())).collect::<BTreeMap<_, _>>());
    let home = tempfile::tempdir().unwrap();
    let hub = files(&["config.json", "pytorch_model.bin", "tokenizer.json"]);
    refused(&hub, home.path(), &["`pytorch_model.bin`", "can run code", "safetensors", "save_pretrained", "org/name@refs/pr/"]);
    assert_eq!(hub.seen().len(), 1);
    refused(&files(&["config.json", "README.md"]), home.path(), &["neither `model.safetensors` nor"]);
    refused(&files(&["README.md"]), home.path(), &["no config.json"]);
    assert!(names(home.path().to_owned()).is_empty());
}

#[test]
fn an_adapter_is_downloaded_by_its_name() {
    let base = golden_folder("llama_grouped_tied");
    let files = golden_folder("adapters/llama_grouped_tied/lora_all_sites");
    let adapter = [(BASE, base.to_str().unwrap())];
    let (hub, home) = (Hub::of(&files), tempfile::tempdir().unwrap());
    let model = Model::open(&base).unwrap();
    let expected = fingerprint(&model.with(&Adapter::open(&files, &model).unwrap()).unwrap());
    let open = |hub: &Hub, home: &Path| finish(start(&hub.address, home, "org/name", &adapter));
    assert_eq!(open(&hub, home.path()).unwrap(), expected);
    assert_eq!(asked(&hub.seen(), "HEAD"), ["adapter_config.json", "adapter_model.safetensors"]);
    assert_eq!(open(&hub, home.path()).unwrap(), expected);
    assert!(hub.seen().is_empty());
    // Each is told from the other, and a pickle from both.
    let empty = tempfile::tempdir().unwrap();
    refused(&hub, empty.path(), &["it holds an adapter, not a model", "Adapter::open"]);
    let error = open(&Hub::of(&base), empty.path()).unwrap_err();
    assert!(error.contains("it has no adapter_config.json") && error.contains("Model::open"), "{error}");
    let pickled = [("adapter_config.json", "{}"), ("adapter_model.bin", "PK")];
    let hub = Hub::serve(pickled.into_iter().map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).collect());
    let error = open(&hub, empty.path()).unwrap_err();
    assert!(error.contains("`adapter_model.bin`, a Python pickle") && error.contains("PeftModel.from_pretrained"), "{error}");
    assert!(names(empty.path().to_owned()).is_empty());
}

#[test]
fn a_flipped_bit_is_found_by_verifying_and_what_did_not_change_is_not_read_again() {
    let (hub, home) = (Hub::of(&bundled()), tempfile::tempdir().unwrap());
    open(&hub, home.path(), "org/name").unwrap();
    let snapshot = root(home.path()).join("snapshots").join(COMMIT);
    let model = Model::open(&snapshot).unwrap();
    let read = || -> Vec<(String, bool)> {
        let frame = model.verify().unwrap();
        let (files, read) = (frame.column("file").unwrap().str().unwrap(), frame.column("read").unwrap().bool().unwrap());
        assert!(frame.column("checksum").unwrap().null_count() == 0);
        files.iter().zip(read.iter()).map(|(file, read)| (file.unwrap().to_owned(), read.unwrap())).collect()
    };
    // All that the model has.
    let all = |yes: bool| names(snapshot.clone()).into_iter().map(|name| (name, yes)).collect::<Vec<_>>();
    assert!(all(true).len() >= 4);
    assert_eq!(read(), all(true));
    assert_eq!(read(), all(false));
    assert_eq!(OpenOptions::new().verify().open(&snapshot).unwrap().bytes(), model.bytes());
    for name in [WEIGHTS, "config.json"] {
        let blob = fs::canonicalize(snapshot.join(name)).unwrap();
        let content = fs::read(&blob).unwrap();
        // In the fraction of a number, or a space: opening sees nothing.
        let mut flipped = content.clone();
        let place = content.len() - 2;
        flipped[place] ^= 1;
        fs::write(&blob, &flipped).unwrap();
        for result in [model.verify().map(drop), OpenOptions::new().verify().open(&snapshot).map(drop)] {
            let error = result.unwrap_err();
            let text = error.to_string();
            assert!(error.is_file() && text.contains(&format!("`{name}` is not what the hub published")), "{text}");
            assert!(text.contains(&format!("remove `{}`", blob.display())), "{text}");
        }
        fs::write(&blob, &content).unwrap();
        let expected: Vec<_> =
            all(false).into_iter().map(|(file, _)| (file == name, file)).map(|(changed, file)| (file, changed)).collect();
        assert_eq!(read(), expected);
    }
    // Time alone is set back: the inode's own time of change tells.
    let blob = fs::canonicalize(snapshot.join(WEIGHTS)).unwrap();
    let (before, mut content) = (fs::metadata(&blob).unwrap().modified().unwrap(), fs::read(&blob).unwrap());
    content[5000] ^= 1;
    fs::write(&blob, &content).unwrap();
    fs::File::options().write(true).open(&blob).unwrap().set_modified(before).unwrap();
    assert!(model.verify().unwrap_err().to_string().contains(WEIGHTS));
    // Nothing is known of a folder of one's own.
    let error = Model::open(bundled()).unwrap().verify().unwrap_err();
    assert!(error.is_input() && error.to_string().contains("no checksums to compare"), "{error}");
    // Python's tools see a healthy cache: nothing of ours stands where they look.
    let theirs = [".no_exist", "blobs", "refs", "snapshots"];
    assert!(names(root(home.path())).iter().all(|name| theirs.contains(&name.as_str())));
}
