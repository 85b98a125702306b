//! Which keys a query may see.

use tch::{Kind, Tensor};

use super::pass::Pass;

/// Which keys each query may see, true where it may, broadcastable to `[example, head, query, key]`; `None` for plain causal attention from
/// slot 0. `start` slots were filled before the `tokens` of this forward.
///
/// A `window` counts positions, not slots: behind a cached prompt that is padded on the right the two differ. A slot's position is the number
/// of real and visible virtual tokens up to it.
pub(super) fn mask(start: i64, tokens: i64, window: Option<i64>, keep: Option<&Tensor>, pass: &Pass<'_, '_>) -> Option<Tensor> {
    let slots = start + tokens;
    let window = window.filter(|&window| window < slots);
    if start == 0 && keep.is_none() && window.is_none() {
        return None;
    }
    let device = pass.positions.device();
    let valid = (start > 0).then(|| pass.cache.as_ref().map(|cache| cache.valid())).flatten();
    let behind = |valid: &Tensor| valid.view([-1, 1, 1, slots]);
    if tokens == 1 && window.is_none() {
        return valid.as_ref().map(behind);
    }
    // The queries' slots, `[1 or example, query]`.
    let asked = match keep {
        Some(keep) => keep + start,
        None => Tensor::arange_start(start, slots, (Kind::Int64, device)).unsqueeze(0),
    };
    let all = Tensor::arange(slots, (Kind::Int64, device));
    let mut seen = all.view([1, 1, 1, slots]).le_tensor(&asked.unsqueeze(1).unsqueeze(-1));
    if let Some(window) = window {
        let (places, asked) = match &valid {
            Some(valid) => {
                let places = valid.cumsum(1, Kind::Int64);
                let asked = asked.expand([places.size()[0], -1], false);
                let of_queries = places.gather(1, &asked, false);
                (places, of_queries)
            }
            None => (all.unsqueeze(0), asked),
        };
        let near = places.view([-1, 1, 1, slots]).gt_tensor(&(asked - window).unsqueeze(1).unsqueeze(-1));
        seen = seen.logical_and(&near);
    }
    Some(match valid {
        Some(valid) => seen.logical_and(&behind(&valid)),
        None => seen,
    })
}
