//! The rotary embedding in `config.json`, in transformers 5's spelling (`rope_parameters`) and the older (`rope_theta`, `rope_scaling`).

use super::super::keys::Keys;
use super::Defaults;
use crate::error::Result;
use crate::nn::rope::{Rope, Scaling};

/// A file's rotary embeddings.
pub(super) struct Ropes {
    pub rope: Rope,
    /// That of windowed layers, for families that have two.
    pub windowed: Option<Rope>,
    /// The share of each head that is turned.
    pub share: f64,
}

/// What one object says.
#[derive(PartialEq)]
struct Said {
    theta: Option<f64>,
    share: Option<f64>,
    scaling: Scaling,
}

/// The contexts that scalings refer to.
#[derive(Clone, Copy)]
struct Contexts {
    max_positions: i64,
    /// That of the pre-training, where it stands outside.
    original: Option<i64>,
}

pub(super) fn read(keys: &mut Keys, defaults: &Defaults, max_positions: i64) -> Result<Ropes> {
    let outer = keys.number("rope_theta")?;
    let share = keys.number("partial_rotary_factor")?;
    let contexts = Contexts { max_positions, original: keys.size("original_max_position_embeddings")? };
    let (newer, mut windowed) = match defaults.windowed_theta {
        Some(_) => read_by_layer(keys, contexts)?,
        None => (read_object(keys, "rope_parameters", contexts)?, None),
    };
    let older = read_object(keys, "rope_scaling", contexts)?;
    if let (Some(newer), Some(older)) = (&newer, &older)
        && newer.scaling != older.scaling
    {
        return Err(keys.error("`rope_parameters` and `rope_scaling` disagree: keep the true one"));
    }
    let said = newer.or(older).unwrap_or(Said { theta: None, share: None, scaling: Scaling::None });
    if let (Some(inner), Some(outer)) = (said.theta, outer)
        && inner != outer
    {
        return Err(keys.error(format!("`{}` is {outer}, but {inner} next to the scaling: keep the true one", keys.called("rope_theta"))));
    }
    let rope = Rope { theta: said.theta.or(outer).unwrap_or(defaults.theta), scaling: said.scaling };
    rope.check().map_err(|error| keys.error(error))?;
    let windowed = match defaults.windowed_theta {
        None => None,
        Some(usual) => {
            let local = keys.number("rope_local_base_freq")?;
            let said = windowed.take().unwrap_or(Said { theta: None, share: None, scaling: Scaling::None });
            let rope = Rope { theta: said.theta.or(local).unwrap_or(usual), scaling: said.scaling };
            rope.check().map_err(|error| keys.error(error))?;
            Some(rope)
        }
    };
    let share = said.share.or(share).unwrap_or(defaults.share);
    if !(share > 0.0 && share <= 1.0) {
        return Err(keys.error(format!("`{}` must be above 0 and at most 1, but is {share}", keys.called("partial_rotary_factor"))));
    }
    Ok(Ropes { rope, windowed, share })
}

/// What changes the rotation in other types than the one that is read.
const OTHER: &[&str] =
    &["attention_factor", "beta_fast", "beta_slow", "long_factor", "short_factor", "mscale", "mscale_all_dim", "mrope_section"];

/// `rope_parameters` with an object for each kind of layer: of full attention, and of a window.
fn read_by_layer(outer: &mut Keys, contexts: Contexts) -> Result<(Option<Said>, Option<Said>)> {
    const KEY: &str = "rope_parameters";
    let Some(mut keys) = outer.object(KEY)? else { return Ok((None, None)) };
    if !keys.has("full_attention") && !keys.has("sliding_attention") {
        return Err(keys.error("must hold an object for each kind of layer, `full_attention` and `sliding_attention`"));
    }
    let both = (read_object(&mut keys, "full_attention", contexts)?, read_object(&mut keys, "sliding_attention", contexts)?);
    outer.put_back(KEY, keys);
    Ok(both)
}

fn read_object(outer: &mut Keys, key: &str, contexts: Contexts) -> Result<Option<Said>> {
    let Some(mut keys) = outer.object(key)? else { return Ok(None) };
    let read = read_scaling(&mut keys, contexts)?;
    // What nobody here knows is listed with the rest of the file's.
    outer.put_back(key, keys);
    Ok(Some(read))
}

fn read_scaling(keys: &mut Keys, contexts: Contexts) -> Result<Said> {
    let theta = keys.number("rope_theta")?;
    let share = keys.number("partial_rotary_factor")?;
    let older = keys.word("type")?;
    let name = keys.word("rope_type")?.or(older).unwrap_or_else(|| "default".to_owned());
    let scaling = match name.as_str() {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: keys.needed_number("factor")? },
        "dynamic" => Scaling::Dynamic { factor: keys.needed_number("factor")?, max_positions: contexts.max_positions },
        // What Phi-3's first files called the long one.
        "longrope" | "su" => long(keys, contexts)?,
        "yarn" if keys.has("short_factor") => long(keys, contexts)?,
        "yarn" => yarn(keys, contexts)?,
        "llama3" => Scaling::Llama3 {
            factor: keys.needed_number("factor")?,
            low_freq_factor: keys.needed_number("low_freq_factor")?,
            high_freq_factor: keys.needed_number("high_freq_factor")?,
            original_max_positions: match original(keys, contexts)? {
                Some(length) => length,
                None => return Err(keys.missing("original_max_position_embeddings")),
            },
        },
        other => {
            return Err(
                keys.error(format!("the rotary type `{other}` is not supported; default, linear, dynamic, yarn, longrope and llama3 are"))
            );
        }
    };
    keys.only("factor", 1, "a factor without a rotary type that uses it")?;
    for key in OTHER {
        keys.refuse(key, "a setting of rotary types that are not supported")?;
    }
    Ok(Said { theta, share, scaling })
}

/// The context of the pre-training.
fn original(keys: &mut Keys, contexts: Contexts) -> Result<Option<i64>> {
    let inner = keys.size("original_max_position_embeddings")?;
    Ok(contexts.original.or(inner))
}

fn yarn(keys: &mut Keys, contexts: Contexts) -> Result<Scaling> {
    let factor = keys.needed_number("factor")?;
    let (mscale, all) = (keys.number("mscale")?, keys.number("mscale_all_dim")?);
    // The paper's temperature, section 3.4.
    let temperature = |mscale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
    let growth = match (keys.number("attention_factor")?, mscale, all) {
        (Some(given), ..) => given,
        (None, Some(mscale), Some(all)) if mscale != 0.0 && all != 0.0 => temperature(mscale) / temperature(all),
        _ => temperature(1.0),
    };
    let given = |value: Option<f64>, usual: f64| value.filter(|&value| value != 0.0).unwrap_or(usual);
    Ok(Scaling::Yarn {
        factor,
        beta_fast: given(keys.number("beta_fast")?, 32.0),
        beta_slow: given(keys.number("beta_slow")?, 1.0),
        original_max_positions: original(keys, contexts)?.unwrap_or(contexts.max_positions),
        truncate: keys.flag("truncate", true)?,
        growth,
    })
}

fn long(keys: &mut Keys, contexts: Contexts) -> Result<Scaling> {
    let Some(short) = keys.numbers("short_factor")? else { return Err(keys.missing("short_factor")) };
    let Some(long) = keys.numbers("long_factor")? else { return Err(keys.missing("long_factor")) };
    let original_max_positions = original(keys, contexts)?.unwrap_or(contexts.max_positions);
    let factor = keys.number("factor")?.unwrap_or(contexts.max_positions as f64 / original_max_positions as f64);
    let growth = match keys.number("attention_factor")? {
        Some(given) => given,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / (original_max_positions as f64).ln()).sqrt(),
    };
    Ok(Scaling::LongRope { short, long, original_max_positions, growth })
}
