//! Which files of a model are needed, and all of them into the cache.

use std::path::{Path, PathBuf};

use super::blob::{self, Meter};
use super::cache::Cache;
use super::client::{Client, Listing, Wanted};
use super::settings::Settings;
use super::{Holding, Name, is_plain, variable};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;

const CONFIG: &str = "config.json";
/// Not every model has these. A snapshot is complete once it is known of the first three; Python leaves no note of the others' absence.
const OPTIONAL: &[&str] =
    &["generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];
const KNOWN: usize = 3;
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter_model.safetensors";

/// A snapshot with all that is needed to open it.
pub(super) fn complete(name: &Name, holding: Holding, cache: &Cache, found: Option<PathBuf>) -> Result<PathBuf> {
    // Of a model in GGUF there is no more than the file that was asked for.
    let as_gguf = |folder: &Path| holding == Holding::Model && !folder.join(CONFIG).exists() && !file::gguf_files(folder).is_empty();
    if let Some(folder) = found.as_ref().filter(|folder| is_complete(cache, folder, holding) || as_gguf(folder)) {
        return Ok(folder.clone());
    }
    let settings = Settings::of(variable)?;
    if settings.offline {
        // What an incomplete one lacks is told by those who read it.
        return found.ok_or_else(|| {
            let place = cache.root().display();
            Error::file(format!(
                "`{name}` is neither a folder here nor in the Hugging Face cache ({place}), and HF_HUB_OFFLINE forbids to download it: \
                 unset it, or give the {holding}'s folder"
            ))
        });
    }
    let client = Client::new(settings)?;
    interrupt::keeps(format!("what was downloaded of `{name}` is kept: the same call goes on from there"));
    let fetched = match holding {
        Holding::Model => fetch(&client, name, cache),
        Holding::Adapter => fetch_adapter(&client, name, cache),
    };
    fetched.map_err(|error| error.context(format!("downloading `{name}`")))
}

/// A GGUF file of a model.
pub(super) fn one(name: &Name, cache: &Cache, file: &str) -> Result<PathBuf> {
    let settings = Settings::of(variable)?;
    if settings.offline {
        return Err(Error::file(format!(
            "`{file}` of `{name}` is not in the Hugging Face cache ({}), and HF_HUB_OFFLINE forbids to download it: unset it, or give the \
             file's path",
            cache.root().display()
        )));
    }
    let client = Client::new(settings)?;
    interrupt::keeps(format!("what was downloaded of `{name}` is kept: the same call goes on from there"));
    let fetched = client.listing(name).and_then(|listing| {
        if !listing.files.iter().any(|listed| listed == file) {
            return Err(Error::file(format!("it has no file `{file}`{}", others(&listing))));
        }
        all(&client, name, &listing.commit, &[file], cache)?;
        cache.refer(&name.revision, &listing.commit)?;
        Ok(cache.commit(&listing.commit).join(file))
    });
    fetched.map_err(|error| error.context(format!("downloading `{name}/{file}`")))
}

/// The GGUF files of a model, for a message; nothing if there is none.
fn others(listing: &Listing) -> String {
    let files = listing.files.iter().filter(|name| file::is_gguf(Path::new(name)));
    let files: Vec<String> = files.take(12).map(|name| format!("`{name}`")).collect();
    if files.is_empty() { String::new() } else { format!(": as GGUF it has {}", files.join(", ")) }
}

fn is_complete(cache: &Cache, folder: &Path, holding: Holding) -> bool {
    let has = |name: &str| folder.join(name).exists();
    if holding == Holding::Adapter {
        return has(ADAPTER);
    }
    let indexed = || shards(&folder.join(INDEX)).is_ok_and(|shards| shards.iter().all(|shard| has(shard)));
    let numbered = || {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        file::numbered_shards(names).is_ok_and(|shards| !shards.is_empty() && shards.iter().all(|shard| has(shard)))
    };
    let weights = has(WEIGHTS) || if has(INDEX) { indexed() } else { numbered() };
    has(CONFIG) && weights && OPTIONAL[..KNOWN].iter().all(|name| cache.knows(folder, name))
}

/// Settings and weights; the base model is another repository, which the caller has opened.
fn fetch_adapter(client: &Client, name: &Name, cache: &Cache) -> Result<PathBuf> {
    let listing = client.listing(name)?;
    let config = Holding::Adapter.config();
    let lists = |file: &str| listing.files.iter().any(|listed| listed == file);
    if !lists(config) {
        let what = if lists(CONFIG) { "it holds a model: open it with `Model::open`" } else { "choose another" };
        return Err(Error::file(format!("it has no {config}, so it is no adapter of PEFT's: {what}")));
    }
    if !lists(ADAPTER) {
        return Err(Error::file(match listing.files.iter().find(|file| file.ends_with(".bin")) {
            Some(pickle) => format!(
                "it has its weights only as `{pickle}`, a Python pickle, which can run code when it is read and is therefore not downloaded: \
                 convert it in Python, where you trust it, with `PeftModel.from_pretrained(model, \"{name}\").save_pretrained(\"<folder>\")`"
            ),
            None => format!("it has no `{ADAPTER}`: choose an adapter with its weights"),
        }));
    }
    all(client, name, &listing.commit, &[config, ADAPTER], cache)?;
    cache.refer(&name.revision, &listing.commit)?;
    Ok(cache.commit(&listing.commit))
}

fn fetch(client: &Client, name: &Name, cache: &Cache) -> Result<PathBuf> {
    let listing = client.listing(name)?;
    let lists = |file: &str| listing.files.iter().any(|listed| listed == file);
    let weights = weights(client, name, &listing)?;
    let mut first = vec![CONFIG];
    first.extend(OPTIONAL.iter().filter(|file| lists(file)));
    let indexed = weights == [INDEX];
    if indexed {
        first.push(INDEX);
    }
    all(client, name, &listing.commit, &first, cache)?;
    let snapshot = cache.commit(&listing.commit);
    if indexed {
        let shards = shards(&snapshot.join(INDEX))?;
        if let Some(absent) = shards.iter().find(|shard| !lists(shard)) {
            return Err(Error::file(format!("`{INDEX}` names `{absent}`, which the model does not have: choose another revision")));
        }
        all(client, name, &listing.commit, &shards.iter().map(String::as_str).collect::<Vec<_>>(), cache)?;
    } else {
        all(client, name, &listing.commit, &weights.iter().map(String::as_str).collect::<Vec<_>>(), cache)?;
    }
    for file in OPTIONAL.iter().filter(|file| !lists(file)) {
        cache.note_absent(&listing.commit, file)?;
    }
    // Last: a revision points to what is there.
    cache.refer(&name.revision, &listing.commit)?;
    Ok(snapshot)
}

/// The file of a model's weights, or of their index, or all shards where there is none; or why there is nothing that can be opened.
fn weights(client: &Client, name: &Name, listing: &Listing) -> Result<Vec<String>> {
    let lists = |file: &str| listing.files.iter().any(|listed| listed == file);
    if !lists(CONFIG) && lists(Holding::Adapter.config()) {
        return Err(Error::file("it holds an adapter, not a model: open its base model, then `Adapter::open(name, &model)`"));
    }
    let as_gguf = || {
        let others = Some(others(listing)).filter(|others| !others.is_empty())?;
        Some(Error::file(format!("it holds no whole model in safetensors{others}: name one of these, like `{name}/<file>`")))
    };
    if !lists(CONFIG) {
        let none = || Error::file(format!("it has no {CONFIG}, so it is no language model of the transformers library: choose another"));
        return Err(as_gguf().unwrap_or_else(none));
    }
    if let Some(weights) = [WEIGHTS, INDEX].into_iter().find(|file| lists(file)) {
        return Ok(vec![weights.to_owned()]);
    }
    let numbered = file::numbered_shards(listing.files.iter().cloned());
    match numbered.map_err(|lack| Error::file(format!("it has no `{INDEX}`, and {lack}: choose another revision")))? {
        shards if shards.is_empty() => {}
        shards => return Ok(shards),
    }
    if let Some(error) = as_gguf() {
        return Err(error);
    }
    let is_pickle = |file: &&String| [".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().any(|end| file.ends_with(end));
    Err(Error::file(match listing.files.iter().find(is_pickle) {
        Some(pickle) => format!(
            "it has its weights only as `{pickle}`, a Python pickle, which can run code when it is read and is therefore not downloaded: look \
             for a revision with safetensors files ({}/{}/discussions often has one: `{}@refs/pr/<number>`), or convert it in Python, where \
             you trust it, with `AutoModelForCausalLM.from_pretrained(...).save_pretrained(\"<folder>\")`",
            client.endpoint, name.repository, name.repository
        ),
        None => format!("it has neither `{WEIGHTS}` nor `{INDEX}`: choose a model of the transformers library with safetensors files"),
    }))
}

/// Brings files into the cache, and gives them their names when each is whole.
fn all<'f>(client: &Client, name: &Name, commit: &str, files: &[&'f str], cache: &Cache) -> Result<()> {
    let entry = |file: &&'f str| {
        interrupt::check()?;
        Ok((*file, client.entry(name, commit, file)?))
    };
    let entries = files.iter().map(entry).collect::<Result<Vec<_>>>()?;
    let left = entries.iter().map(|(_, entry)| blob::left(cache, entry)).sum();
    let mut meter = Meter::new(&format!("downloading {name}"), left);
    for (place, (file, entry)) in entries.iter().enumerate() {
        interrupt::at(place as u64, entries.len() as u64, "files")?;
        if !blob::is_there(cache, entry) {
            let wanted = Wanted { name, file: Some(file) };
            blob::fetch(client, wanted, &client.address(name, commit, file), entry, cache, &mut meter)?;
        }
        cache.link(commit, file, &entry.checksum)?;
    }
    meter.finish();
    Ok(())
}

/// The files that an index names, each once. A name that is more than a name could lead out of the folder.
fn shards(index: &Path) -> Result<Vec<String>> {
    let text = file::read_text(index)?;
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let map = json.as_ref().and_then(|json| json.get("weight_map")?.as_object());
    let mut shards: Vec<&str> = map.into_iter().flatten().map(|(_, shard)| shard.as_str().unwrap_or_default()).collect();
    shards.sort_unstable();
    shards.dedup();
    match shards.iter().all(|shard| is_plain(shard) && shard.ends_with(".safetensors")) && !shards.is_empty() {
        true => Ok(shards.into_iter().map(str::to_owned).collect()),
        false => Err(Error::file(format!("{} does not name the files of the weights: choose another revision", index.display()))),
    }
}
