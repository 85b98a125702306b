//! The rotary embedding in `config.json`, in transformers 5's spelling (`rope_parameters`) and the older (`rope_theta`, `rope_scaling`).

use super::super::keys::Keys;
use crate::error::Result;
use crate::nn::rope::{Rope, Scaling};

/// What the reference takes when no base is given: the first Llama checkpoints give none.
const THETA: f64 = 10_000.0;

pub(super) fn read(keys: &mut Keys) -> Result<Rope> {
    let outer = keys.number("rope_theta")?;
    keys.only("partial_rotary_factor", 1, "a rotation of only a part of each head")?;
    let newer = read_object(keys, "rope_parameters")?;
    let older = read_object(keys, "rope_scaling")?;
    if let (Some(newer), Some(older)) = (newer, older)
        && newer.1 != older.1
    {
        return Err(keys.error("`rope_parameters` and `rope_scaling` disagree: keep the true one"));
    }
    let (inner, scaling) = newer.or(older).unwrap_or((None, Scaling::None));
    if let (Some(inner), Some(outer)) = (inner, outer)
        && inner != outer
    {
        return Err(keys.error(format!("`rope_theta` is {outer}, but {inner} beside the scaling: keep the true one")));
    }
    let rope = Rope { theta: inner.or(outer).unwrap_or(THETA), scaling };
    rope.check().map_err(|error| keys.error(error))?;
    Ok(rope)
}

/// What changes the rotation in other types than those read here.
const OTHER: &[&str] =
    &["attention_factor", "beta_fast", "beta_slow", "long_factor", "short_factor", "mscale", "mscale_all_dim", "mrope_section"];

fn read_object(outer: &mut Keys, key: &str) -> Result<Option<(Option<f64>, Scaling)>> {
    let Some(mut keys) = outer.object(key)? else { return Ok(None) };
    let read = read_scaling(&mut keys)?;
    // What nobody here knows is listed with the rest of the file's.
    outer.put_back(key, keys);
    Ok(Some(read))
}

fn read_scaling(keys: &mut Keys) -> Result<(Option<f64>, Scaling)> {
    let theta = keys.number("rope_theta")?;
    keys.only("partial_rotary_factor", 1, "a rotation of only a part of each head")?;
    let older = keys.word("type")?;
    let name = keys.word("rope_type")?.or(older).unwrap_or_else(|| "default".to_owned());
    let scaling = match name.as_str() {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: keys.needed_number("factor")? },
        "llama3" => Scaling::Llama3 {
            factor: keys.needed_number("factor")?,
            low_freq_factor: keys.needed_number("low_freq_factor")?,
            high_freq_factor: keys.needed_number("high_freq_factor")?,
            original_max_positions: keys.needed_size("original_max_position_embeddings")?,
        },
        other => return Err(keys.error(format!("the rotary type `{other}` is not supported; default, linear and llama3 are"))),
    };
    keys.only("factor", 1, "a factor without a rotary type that uses it")?;
    for key in OTHER {
        keys.refuse(key, "a setting of rotary types that are not supported")?;
    }
    Ok((theta, scaling))
}
