//! How a family's files name and store the weights that the decoder takes.

use std::collections::HashMap;

use tch::Tensor;

use super::config::Config;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::nn::{self, FusedLayout};

/// How a family's files name and store its weights.
#[derive(Clone, Copy)]
pub(super) struct Storage {
    /// What stands for `model` at the beginning of names; where files differ, all of them, first the one that is written, and last the one that
    /// transformers' modules have inside a model of several senses.
    pub base: &'static [&'static str],
    /// What the output layer is called, likewise.
    pub head: &'static [&'static str],
    /// Parts of paths that are called otherwise: the common one, and the family's.
    pub names: &'static [(&'static str, &'static str)],
    /// Modules stored as one matrix.
    pub fused: &'static [Whole],
    /// Whether the matrices of layers are stored `[in, out]`.
    pub transposed: bool,
    /// How the matrices of experts are stored.
    pub experts: Stored,
    /// Beginnings of names, or with a dot in front endings, of tensors that are no weights of the decoder.
    pub ignored: &'static [&'static str],
}

/// How the matrices of experts are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// As the decoder takes them: stacked, gate and up in one.
    Stacked,
    /// Stacked, gate and up apart.
    Apart,
    /// Each expert's by themselves; files with all of them stacked are read, too.
    Each,
}

/// Modules stored as one matrix.
#[derive(Clone, Copy)]
pub(super) struct Whole {
    /// The common name of the whole.
    pub name: &'static str,
    /// The common names of its parts.
    pub parts: &'static [&'static str],
    /// Whether the parts' rows stand head by head.
    pub by_head: bool,
}

/// Query, key and value, one after the other.
pub(super) const QKV: Whole = Whole { name: "qkv_proj", parts: &["q_proj", "k_proj", "v_proj"], by_head: false };

/// Gate and up, one after the other.
pub(super) const GATE_UP: Whole = Whole { name: "gate_up_proj", parts: &["gate_proj", "up_proj"], by_head: false };

/// Names and matrices as the decoder has them.
pub(super) const PLAIN: Storage = Storage {
    base: &["model"],
    head: &["lm_head"],
    names: &[],
    fused: &[],
    transposed: false,
    experts: Stored::Stacked,
    ignored: &[".rotary_emb.inv_freq"],
};

impl Storage {
    /// A path under one of the bases, in the family's own words; the same path where it has none.
    fn own(&self, path: &str, base: &str, head: &str) -> String {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let words = rest.split('.').filter(|part| !part.is_empty()).map(|part| self.word(part).to_string());
        let first = match first {
            "model" => base,
            "lm_head" => head,
            other => other,
        };
        std::iter::once(first.to_string()).filter(|first| !first.is_empty()).chain(words).collect::<Vec<_>>().join(".")
    }

    /// A path under each base, with the first name of the output layer.
    pub(super) fn own_paths(&self, path: &str) -> Vec<String> {
        let head = self.head.first().copied().unwrap_or("lm_head");
        self.base.iter().map(|base| self.own(path, base, head)).collect()
    }

    fn word<'w>(&self, word: &'w str) -> &'w str {
        self.names.iter().find(|(common, _)| *common == word).map_or(word, |(_, own)| own)
    }

    /// Other spellings of a common path: the family's own, under each base, and its words behind the common prefix.
    pub(super) fn spellings(&self, path: &str) -> Vec<String> {
        let bases = self.base.iter().filter(|base| !base.is_empty());
        let mut all: Vec<String> = bases.flat_map(|base| self.head.iter().map(move |head| self.own(path, base, head))).collect();
        all.push(self.own(path, "model", "lm_head").replacen(&format!("model.{}.", self.word("layers")), "model.layers.", 1));
        all.retain(|own| own != path);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The whole that a linear module is stored in.
    fn whole(&self, module: &str) -> Option<&'static Whole> {
        self.fused.iter().find(|whole| whole.parts.contains(&module))
    }
}

impl Config {
    /// In which order the one matrix that is stored for the parts of `whole` holds them; `None` where each is stored by itself.
    pub(super) fn fused(&self, whole: &str) -> Option<FusedLayout> {
        self.family.storage().fused.iter().find(|own| own.name == whole).map(|own| self.order(own))
    }

    fn order(&self, whole: &Whole) -> FusedLayout {
        if whole.by_head { FusedLayout::ByHead { heads: self.heads } } else { FusedLayout::Stacked }
    }
}

/// The tensors of a checkpoint, and which of the decoder's weights each holds.
pub(super) struct Files {
    entries: Vec<Entry>,
    /// By the name of a weight of the decoder.
    places: HashMap<String, usize>,
    /// Parts of a whole that was read, not yet taken.
    ready: HashMap<String, Tensor>,
    ending: Ending,
}

/// What may be left of a checkpoint when all weights are taken.
#[derive(Clone)]
pub(super) struct Ending {
    /// The embedding's weight.
    pub embedding: String,
    /// That of the output layer.
    pub head: String,
    /// As [`Storage::ignored`].
    pub ignored: &'static [&'static str],
}

struct Entry {
    /// Names and shapes in the file.
    stored: Vec<(String, Vec<i64>)>,
    /// Names and shapes of the decoder's weights.
    held: Vec<(String, Vec<i64>)>,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    /// One for one.
    Same,
    /// One for one, `[in, out]`.
    Transposed,
    /// One for several.
    Whole(FusedLayout, bool),
    /// Several for one: those of each expert, one after the other.
    Experts,
    /// Several for one: of each expert one after the other.
    SideBySide,
}

impl Files {
    /// How `storage` holds what the decoder of `config` takes; `exists` says which names there are, and so which of its spellings a file has.
    pub(super) fn of(config: &Config, storage: &Storage, exists: impl Fn(&str) -> bool) -> Self {
        let embedding = |base: &&&str| exists(&format!("{}.weight", storage.own("model.embed_tokens", base, "")));
        let base = storage.base.iter().find(embedding).or(storage.base.first()).copied().unwrap_or("model");
        let of_head = |head: &&&str| exists(&format!("{head}.weight"));
        let head = storage.head.iter().find(of_head).or(storage.head.first()).copied().unwrap_or("lm_head");
        let own = |path: &str| storage.own(path, base, head);
        let mut entries: Vec<Entry> = Vec::new();
        let mut places = HashMap::new();
        let mut wholes: HashMap<String, usize> = HashMap::new();
        for (name, shape) in config.weights() {
            let (path, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
            let (parent, module) = path.rsplit_once('.').unwrap_or(("", path));
            let matrix = storage.transposed && shape.len() == 2 && name.contains(".layers.");
            let place = if let Some(whole) = storage.whole(module) {
                let stored = format!("{}.{ending}", own(&format!("{parent}.{}", whole.name)));
                let place = *wholes.entry(stored.clone()).or_insert_with(|| {
                    let how = How::Whole(config.order(whole), matrix);
                    entries.push(Entry { stored: vec![(stored, Vec::new())], held: Vec::new(), how });
                    entries.len() - 1
                });
                entries[place].held.push((name.clone(), shape));
                place
            } else if storage.experts == Stored::Apart && module == "experts" {
                let (modules, shape_of_each) = modules(ending, &shape);
                let stored = |module: &&str| (format!("{}.{module}.weight", own(path)), [&shape[..1], &shape_of_each].concat());
                entries.push(Entry {
                    stored: modules.iter().map(stored).collect(),
                    held: vec![(name.clone(), shape.clone())],
                    how: How::SideBySide,
                });
                entries.len() - 1
            } else if storage.experts == Stored::Each && module == "experts" && !exists(&own(&name)) {
                entries.push(Entry {
                    stored: of_experts(&own(path), ending, &shape),
                    held: vec![(name.clone(), shape)],
                    how: How::Experts,
                });
                entries.len() - 1
            } else {
                let (how, there) = if matrix { (How::Transposed, vec![shape[1], shape[0]]) } else { (How::Same, shape.clone()) };
                entries.push(Entry { stored: vec![(own(&name), there)], held: vec![(name.clone(), shape)], how });
                entries.len() - 1
            };
            places.insert(name, place);
        }
        for entry in &mut entries {
            if let (How::Whole(_, turned), Some((_, first))) = (entry.how, entry.held.first()) {
                let rows = entry.held.iter().fold(0i64, |sum, (_, shape)| sum.saturating_add(shape[0]));
                let mut shape = [&[rows], &first[1..]].concat();
                if turned {
                    shape.reverse();
                }
                entry.stored[0].1 = shape;
            }
        }
        let ending = Ending { embedding: own("model.embed_tokens.weight"), head: own("lm_head.weight"), ignored: storage.ignored };
        Self { entries, places, ready: HashMap::new(), ending }
    }

    /// Names and shapes of all tensors that hold weights.
    pub(super) fn stored(&self) -> Vec<(String, Vec<i64>)> {
        self.entries.iter().flat_map(|entry| entry.stored.clone()).collect()
    }

    /// What may be left.
    pub(super) fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// The decoder's weight `name`, read from the checkpoint.
    pub(super) fn take(&mut self, weights: &mut Weights, name: &str, shape: &[i64]) -> Result<Tensor> {
        if let Some(part) = self.ready.remove(name) {
            return Ok(part);
        }
        let Some(entry) = self.places.get(name).map(|&place| &self.entries[place]) else {
            return Err(Error::internal(format!("no place in the files for `{name}` {shape:?}")));
        };
        let mut read = entry.stored.iter().map(|(name, shape)| weights.take(name, shape));
        let mut first = || read.next().unwrap_or_else(|| Err(Error::internal(format!("nothing stored for `{name}`"))));
        match entry.how {
            How::Same => first(),
            How::Transposed => Ok(first()?.f_tr()?.f_contiguous()?),
            How::Whole(order, turned) => {
                let whole = first()?;
                let whole = if turned { whole.f_tr()? } else { whole };
                let rows: Vec<i64> = entry.held.iter().map(|(_, shape)| shape[0]).collect();
                // Each in memory of its own: the whole goes.
                let parts = nn::split(order, &rows, &whole, 0)?.iter().map(Tensor::copy).collect::<Vec<_>>();
                self.ready.extend(entry.held.iter().map(|(name, _)| name.clone()).zip(parts));
                self.ready.remove(name).ok_or_else(|| Error::internal(format!("`{name}` is no part of its whole")))
            }
            How::Experts => {
                let all = read.collect::<Result<Vec<_>>>()?;
                Ok(Tensor::f_cat(&all, 0)?.f_view(shape)?)
            }
            How::SideBySide if entry.stored.len() == 1 => first(),
            How::SideBySide => Ok(Tensor::f_cat(&read.collect::<Result<Vec<_>>>()?, 1)?),
        }
    }

    /// The decoder's weights as the family's files hold them.
    pub(super) fn write(&self, weights: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>> {
        let held: HashMap<&str, &Tensor> = weights.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut stored = Vec::new();
        for entry in &self.entries {
            let parts = entry.held.iter().map(|(name, _)| {
                held.get(name.as_str()).map(|tensor| tensor.shallow_clone()).ok_or_else(|| Error::internal(format!("no weight `{name}`")))
            });
            let parts = parts.collect::<Result<Vec<_>>>()?;
            let whole = match entry.how {
                How::Same | How::Experts | How::SideBySide => parts[0].shallow_clone(),
                How::Transposed => parts[0].f_tr()?.f_contiguous()?,
                How::Whole(order, turned) => {
                    let whole = nn::join(order, &parts, 0)?;
                    if turned { whole.f_tr()?.f_contiguous()? } else { whole }
                }
            };
            match entry.how {
                How::Experts => {
                    let rows = whole.f_reshape([-1, whole.size()[2]])?;
                    let mut start = 0;
                    for (name, shape) in &entry.stored {
                        stored.push((name.clone(), rows.f_narrow(0, start, shape[0])?.copy()));
                        start += shape[0];
                    }
                }
                How::SideBySide => {
                    let parts = whole.f_chunk(entry.stored.len() as i64, 1)?;
                    stored.extend(entry.stored.iter().map(|(name, _)| name.clone()).zip(parts.iter().map(Tensor::copy)));
                }
                _ => stored.push((entry.stored[0].0.clone(), whole)),
            }
        }
        Ok(stored)
    }
}

/// The modules of each expert that the stacked `ending` of this shape holds, and the shape of each.
fn modules(ending: &str, shape: &[i64]) -> (&'static [&'static str], Vec<i64>) {
    let modules: &[&str] = if ending == GATE_UP.name { GATE_UP.parts } else { &["down_proj"] };
    (modules, vec![shape[1] / modules.len() as i64, shape[2]])
}

/// Names and shapes of the matrices of each expert whose rows are those of the stacked `ending` below `path`.
fn of_experts(path: &str, ending: &str, shape: &[i64]) -> Vec<(String, Vec<i64>)> {
    let (modules, own) = modules(ending, shape);
    (0..shape[0])
        .flat_map(|expert| modules.iter().map(move |module| (expert, module)))
        .map(|(expert, module)| (format!("{path}.{expert}.{module}.weight"), own.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: Storage = Storage {
        base: &["transformer", ""],
        names: &[("layers", "h"), ("self_attn", "attn"), ("qkv_proj", "c_attn"), ("embed_tokens", "wte")],
        ..PLAIN
    };

    #[test]
    fn experts_stored_apart_come_back_as_they_were() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families/qwen3_moe");
        let config = Config::open(folder).unwrap();
        let files = Files::of(&config, &Storage { experts: Stored::Apart, ..PLAIN }, |_| true);
        let held: Vec<(String, Tensor)> =
            config.weights().into_iter().map(|(name, shape)| (name, Tensor::rand(shape, (tch::Kind::Float, tch::Device::Cpu)))).collect();
        let stored = files.write(&held).unwrap();
        let shapes: Vec<(String, Vec<i64>)> = stored.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        assert_eq!(shapes, files.stored());
        let find = |list: &[(String, Tensor)], name: &str| list.iter().find(|(own, _)| own == name).unwrap().1.shallow_clone();
        let [gate, up] = ["gate_proj", "up_proj"].map(|part| find(&stored, &format!("model.layers.0.mlp.experts.{part}.weight")));
        let whole = find(&held, "model.layers.0.mlp.experts.gate_up_proj");
        assert_eq!(whole.narrow(1, 0, gate.size()[1]), gate);
        assert_eq!(whole.narrow(1, gate.size()[1], gate.size()[1]), up);
    }

    #[test]
    fn names_are_the_familys() {
        assert_eq!(ODD.own("model.layers.3.self_attn.qkv_proj", "transformer", "lm_head"), "transformer.h.3.attn.c_attn");
        assert_eq!(ODD.own("model.embed_tokens.weight", "", "lm_head"), "wte.weight");
        assert_eq!(ODD.own("lm_head", "", "embed_out"), "embed_out");
        assert_eq!(ODD.spellings("model.layers.0.self_attn"), ["model.layers.0.attn", "transformer.h.0.attn"]);
        assert!(PLAIN.spellings("model.layers.0.self_attn").is_empty());
    }
}
