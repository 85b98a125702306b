//! `Model::open("org/name")` with an empty cache: with the feature `hub` against a hub on this machine, without it the way to it.
//! Every opening is a process of its own, because the environment is a process's; no other host is ever asked.

#[cfg(feature = "hub")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "hub")]
mod server;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use ia2::prelude::*;
#[cfg(not(feature = "hub"))]
use sha2::{Digest, Sha256};

/// Set in a child: the model to open. Without it the child's test does nothing.
const OPEN: &str = "IA2_TEST_HUB_OPEN";
/// Set in a child: what is to be opened is an adapter for the model in this folder.
const BASE: &str = "IA2_TEST_HUB_BASE";
/// Set in a child: at which question it is interrupted; whether it listens to signals.
const FUSE: &str = "IA2_TEST_HUB_FUSE";
const LISTEN: &str = "IA2_TEST_HUB_LISTEN";
const TOKEN: &str = "hf_never_to_be_shown";

#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let Ok(name) = std::env::var(OPEN) else { return };
    if let Ok(asks) = std::env::var(FUSE) {
        ia2::interrupt::fuse(asks.parse().unwrap());
    }
    if std::env::var_os(LISTEN).is_some() {
        ia2::interrupt::listen().unwrap();
    }
    let opened = match std::env::var(BASE) {
        Ok(base) => Model::open(base).and_then(|model| model.with(&Adapter::open(name, &model)?)),
        Err(_) => Model::open(name),
    };
    match opened {
        Ok(model) => println!("OPENED {}", fingerprint(&model)),
        Err(error) => println!("REFUSED {error:?}"),
    }
}

/// What the weights compute, and whether there is a tokenizer.
fn fingerprint(model: &Model) -> String {
    let logits = model.forward(&[vec![1, 2, 3, 5]]).unwrap().values.to_kind(Kind::Double);
    let values: Vec<f64> = logits.view([-1]).narrow(0, 0, 40).try_into().unwrap();
    let values: Vec<String> = values.iter().map(|value| format!("{value:.3}")).collect();
    format!("{} tokenizer: {}", values.join(" "), model.tokenizer().is_ok())
}

/// A child that opens a model in the cache under `home` with the environment given and nothing else of the hub's.
fn start(address: &str, home: &Path, name: &str, environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env(OPEN, name);
    for (variable, _) in std::env::vars() {
        if variable.starts_with("HF_") || variable.starts_with("TRANSFORMERS_") || variable.to_lowercase().ends_with("_proxy") {
            command.env_remove(variable);
        }
    }
    command.env("HF_ENDPOINT", address).env("HF_HOME", home).envs(environment.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The fingerprint of the model, or the error; nothing that was printed may hold the token.
fn finish(child: Child) -> Result<String, String> {
    let output = child.wait_with_output().unwrap();
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(TOKEN), "{text}");
    if let Some((_, rest)) = text.split_once("REFUSED ") {
        return Err(rest.split("\ntest ").next().unwrap().to_owned());
    }
    let opened = text.split_once("OPENED ").unwrap_or_else(|| panic!("{text}")).1;
    Ok(opened.lines().next().unwrap().to_owned())
}

#[cfg(not(feature = "hub"))]
#[test]
fn without_the_feature_the_error_says_how_to_get_it() {
    let home = tempfile::tempdir().unwrap();
    let error = finish(start("http://127.0.0.1:9", home.path(), "org/name", &[])).unwrap_err();
    for word in ["`org/name`", "Hugging Face cache", "feature `hub`", ":dep ia2 = { path = \"/", "hf download org/name"] {
        assert!(error.contains(word), "{word} is missing in: {error}");
    }
}

/// A cache that holds the bundled model under the name `org/name`, and the folder of its snapshot.
fn cached(home: &Path) -> std::path::PathBuf {
    let root = home.join("hub/models--org--name");
    let snapshot = root.join("snapshots/0123abcd");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(root.join("refs")).unwrap();
    std::fs::write(root.join("refs/main"), "0123abcd").unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/tiny-icl").join(name);
        std::os::unix::fs::symlink(from, snapshot.join(name)).unwrap();
    }
    snapshot
}

#[test]
fn a_reference_leads_nowhere_but_to_a_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let snapshot = cached(home.path());
    let open = || finish(start("http://127.0.0.1:9", home.path(), "org/name", &[("HF_HUB_OFFLINE", "1")]));
    open().unwrap();
    for planted in [snapshot.to_str().unwrap(), "../snapshots/0123abcd", "/", ""] {
        std::fs::write(home.path().join("hub/models--org--name/refs/main"), planted).unwrap();
        let error = open().unwrap_err();
        assert!(error.contains("nor in the Hugging Face cache"), "{error}");
    }
}

#[test]
fn an_adapter_is_found_in_the_cache_by_its_name() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (base, files) = (golden.join("llama_grouped_tied"), golden.join("adapters/llama_grouped_tied/lora_all_sites"));
    let home = tempfile::tempdir().unwrap();
    let open = || finish(start("http://127.0.0.1:9", home.path(), "org/name", &[("HF_HUB_OFFLINE", "1"), (BASE, base.to_str().unwrap())]));
    let error = open().unwrap_err();
    assert!(error.contains("`org/name`") && error.contains("Hugging Face cache"), "{error}");
    let root = home.path().join("hub/models--org--name");
    std::fs::create_dir_all(root.join("snapshots")).unwrap();
    std::fs::create_dir_all(root.join("refs")).unwrap();
    std::fs::write(root.join("refs/main"), "0123abcd").unwrap();
    std::os::unix::fs::symlink(&files, root.join("snapshots/0123abcd")).unwrap();
    let model = Model::open(&base).unwrap();
    let expected = fingerprint(&model.with(&Adapter::open(files, &model).unwrap()).unwrap());
    assert_ne!(expected, fingerprint(&model));
    assert_eq!(open().unwrap(), expected);
}

/// A model in GGUF, as Python's downloader leaves it.
#[cfg(not(feature = "hub"))]
#[test]
fn gguf_files_of_the_cache_are_found_by_name() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("hub/models--org--name-GGUF");
    let snapshot = root.join("snapshots/abc");
    std::fs::create_dir_all(root.join("refs")).unwrap();
    std::fs::create_dir_all(root.join("blobs")).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(root.join("refs/main"), "abc").unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf/qwen2.gguf");
    let digest = format!("{:x}", Sha256::digest(std::fs::read(&file).unwrap()));
    let blob = root.join("blobs").join(&digest);
    std::fs::copy(&file, &blob).unwrap();
    std::os::unix::fs::symlink(Path::new("../../blobs").join(&digest), snapshot.join("qwen2.Q4_0.gguf")).unwrap();
    let open = |name: &str| finish(start("http://127.0.0.1:9", home.path(), name, &[]));
    let expected = fingerprint(&Model::open(&file).unwrap());
    for name in ["org/name-GGUF/qwen2.Q4_0.gguf", "org/name-GGUF@abc/qwen2.Q4_0.gguf", "org/name-GGUF"] {
        assert_eq!(open(name).as_ref(), Ok(&expected), "{name}");
    }
    let error = open("org/name-GGUF/other.gguf").unwrap_err();
    for word in ["`other.gguf` of `org/name-GGUF`", "Hugging Face cache", "feature `hub`", "hf download org/name-GGUF other.gguf"] {
        assert!(error.contains(word), "{word} is missing in: {error}");
    }
    // A file is compared alone: nothing else of the snapshot was opened.
    std::fs::write(snapshot.join("other.txt"), "").unwrap();
    let model = Model::open(snapshot.join("qwen2.Q4_0.gguf")).unwrap();
    assert_eq!(model.verify().unwrap().height(), 1);
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let error = model.verify().unwrap_err().to_string();
    assert!(error.contains("`qwen2.Q4_0.gguf` is not what the hub published"), "{error}");
}

#[cfg(feature = "hub")]
mod with_the_feature;
