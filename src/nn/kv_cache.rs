//! Keys and values of tokens already seen.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

/// Preallocated keys and values per layer, `[example, kv_head, slot, head_dim]`, and which slots hold real tokens.
///
/// Prompts are padded on the right, so the slots between a short prompt and the first generated token hold padding; what rows have taken over
/// from other caches is padded on the left, so that it ends at one slot. `valid` masks both.
/// Positions (and so rotary angles) follow the logical token, not the slot.
#[derive(Debug)]
pub(crate) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    valid: Tensor,
    filled: i64,
    /// How many of the first slots hold virtual tokens.
    virtual_tokens: i64,
    growth: Growth,
}

/// What happens to the keys and values of a forward.
#[derive(Debug)]
enum Growth {
    /// They are copied into room that is there already.
    Room,
    /// They are joined to those before and kept; gradients flow through them.
    Kept,
    /// Nothing but one forward reads this cache: they are joined to those of earlier caches, a layer at a time, and not kept. Gradients flow
    /// through them where all rows go on from one prefix. Without gradients all layers are joined in the same memory, keys and values.
    Lent(Vec<Run>, [Option<Tensor>; 2]),
}

/// What a continuation goes on from: the tokens of one row of a cache.
#[derive(Clone, Debug)]
pub(crate) struct CachedPrefix {
    cache: Rc<KvCache>,
    row: i64,
    /// The slot after the last token.
    end: i64,
    /// How many slots the tokens take, those of virtual tokens included.
    slots: i64,
}

impl CachedPrefix {
    /// All of the first row.
    pub(crate) fn whole(cache: KvCache) -> Self {
        let slots = cache.filled;
        Self { cache: Rc::new(cache), row: 0, end: slots, slots }
    }

    /// `before` (`None` where nothing came before) and the `tokens` that `cache` has of it in `row`, from the slot `start` on.
    pub(crate) fn grown(before: Option<&Self>, cache: &Rc<KvCache>, row: usize, start: i64, tokens: i64) -> Self {
        let slots = before.map_or(0, |before| before.slots);
        Self { cache: cache.clone(), row: row as i64, end: start + tokens, slots: slots + tokens }
    }

    /// Slots that the longest of some prefixes takes.
    pub(crate) fn longest(cached_prefixes: &[Option<Self>]) -> i64 {
        cached_prefixes.iter().flatten().map(|cached_prefix| cached_prefix.slots).max().unwrap_or(0)
    }

    fn is_at(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.cache, &other.cache) && (self.row, self.end, self.slots) == (other.row, other.end, other.slots)
    }

    /// Its slots of a tensor `[example, .., slot, ..]` of its cache, one example.
    fn of(&self, values: &Tensor, axis: i64) -> Tensor {
        values.narrow(0, self.row, 1).narrow(axis, self.end - self.slots, self.slots)
    }
}

/// Neighbouring rows that go on from the same prefix.
#[derive(Debug)]
struct Run {
    first: i64,
    rows: i64,
    cached_prefix: Option<CachedPrefix>,
}

impl Run {
    fn of(cached_prefixes: &[Option<CachedPrefix>]) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        for (row, cached_prefix) in cached_prefixes.iter().enumerate() {
            match (runs.last_mut(), cached_prefix) {
                (Some(Self { rows, cached_prefix: Some(last), .. }), Some(own)) if last.is_at(own) => *rows += 1,
                (Some(Self { rows, cached_prefix: None, .. }), None) => *rows += 1,
                _ => runs.push(Self { first: row as i64, rows: 1, cached_prefix: cached_prefix.clone() }),
            }
        }
        runs
    }

    /// Writes what the rows go on from before the slot `end` of `values [example, .., slot, ..]`, and zeros before it: what is masked must be
    /// finite.
    fn write(&self, values: &Tensor, axis: i64, end: i64, pick: impl Fn(&KvCache) -> &Tensor) {
        let own = values.narrow(0, self.first, self.rows);
        let slots = self.cached_prefix.as_ref().map_or(0, |cached_prefix| cached_prefix.slots);
        if slots < end {
            let _ = own.narrow(axis, 0, end - slots).zero_();
        }
        if let Some(cached_prefix) = &self.cached_prefix {
            own.narrow(axis, end - slots, slots).copy_(&cached_prefix.of(pick(&cached_prefix.cache), axis));
        }
    }
}

impl KvCache {
    /// Room for `slots` tokens of each example.
    pub(crate) fn new(layers: usize, examples: i64, kv_heads: i64, slots: i64, head_dim: i64, kind: Kind, device: Device) -> Self {
        let empty = || Tensor::empty([examples, kv_heads, slots, head_dim], (kind, device));
        Self {
            layers: (0..layers).map(|_| (empty(), empty())).collect(),
            valid: Tensor::zeros([examples, slots], (Kind::Bool, device)),
            filled: 0,
            virtual_tokens: 0,
            growth: Growth::Room,
        }
    }

    /// Keys and values of `tokens` virtual tokens, one example, that a forward has still to fill in.
    pub(crate) fn of_virtual(layers: usize, tokens: i64, kv_heads: i64, head_dim: i64, visible: bool, kind: Kind, device: Device) -> Self {
        let mut cache = Self::new(layers, 1, kv_heads, 0, head_dim, kind, device);
        let seen = if visible { Tensor::ones } else { Tensor::zeros };
        (cache.valid, cache.filled) = (seen([1, tokens], (Kind::Bool, device)), tokens);
        (cache.virtual_tokens, cache.growth) = (tokens, Growth::Kept);
        cache
    }

    /// Slots filled so far, those of virtual tokens included.
    pub(crate) fn len(&self) -> i64 {
        self.filled
    }

    /// `[example, slot]`: true where a filled slot holds a real token.
    pub(crate) fn valid(&self) -> Tensor {
        self.valid.narrow(1, 0, self.filled)
    }

    /// Keys and values of the first example, `[slot, 2 layer, kv_head, head_dim]`, in the order of [`VirtualTokens::KeysValues`](super::VirtualTokens).
    pub(crate) fn keys_values(&self) -> Tensor {
        let both = self.layers.iter().flat_map(|(keys, values)| [keys, values]);
        Tensor::cat(&both.map(|values| values.narrow(0, 0, 1).narrow(2, 0, self.filled)).collect::<Vec<_>>(), 0).permute([2, 0, 1, 3])
    }

    /// Opens the next slots for a forward over `tokens [example, token]`, true where real. Every layer then fills them with [`KvCache::put`].
    pub(crate) fn advance(&mut self, real: &Tensor) {
        let tokens = real.size()[1];
        self.valid.narrow(1, self.filled, tokens).copy_(real);
        self.filled += tokens;
    }

    /// Writes one layer's keys and values into the newest slots and gives all filled ones.
    pub(crate) fn put(&mut self, layer: usize, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        let tokens = keys.size()[2];
        let before = self.filled - tokens;
        if let Growth::Lent(runs, [for_keys, for_values]) = &mut self.growth {
            let keys = joined(runs, before, keys, &|cache| &cache.layers[layer].0, for_keys);
            return (keys, joined(runs, before, values, &|cache| &cache.layers[layer].1, for_values));
        }
        let (all_keys, all_values) = &self.layers[layer];
        if matches!(self.growth, Growth::Kept) {
            let (keys, values) = (Tensor::cat(&[all_keys, keys], 2), Tensor::cat(&[all_values, values], 2));
            self.layers[layer] = (keys.shallow_clone(), values.shallow_clone());
            return (keys, values);
        }
        all_keys.narrow(2, before, tokens).copy_(keys);
        all_values.narrow(2, before, tokens).copy_(values);
        (all_keys.narrow(2, 0, self.filled), all_values.narrow(2, 0, self.filled))
    }

    /// Copies what each row goes on from into this new cache, whose room is filled up to where the longest of them ends.
    pub(crate) fn go_on_from(&mut self, cached_prefixes: &[Option<CachedPrefix>]) {
        let end = CachedPrefix::longest(cached_prefixes);
        let runs = Run::of(cached_prefixes);
        for (layer, (keys, values)) in self.layers.iter().enumerate() {
            for run in &runs {
                run.write(keys, 2, end, |cache| &cache.layers[layer].0);
                run.write(values, 2, end, |cache| &cache.layers[layer].1);
            }
        }
        runs.iter().for_each(|run| run.write(&self.valid, 1, end, |cache| &cache.valid));
        (self.filled, self.virtual_tokens) = (end, virtual_tokens(cached_prefixes));
    }

    /// A cache for one forward over `tokens` tokens that go on from these prefixes, one row for each: they are lent and not copied as a whole.
    pub(crate) fn lent(cached_prefixes: &[Option<CachedPrefix>], tokens: i64, device: Device) -> Self {
        let filled = CachedPrefix::longest(cached_prefixes);
        let valid = Tensor::zeros([cached_prefixes.len() as i64, filled + tokens], (Kind::Bool, device));
        let runs = Run::of(cached_prefixes);
        runs.iter().for_each(|run| run.write(&valid, 1, filled, |cache| &cache.valid));
        Self {
            layers: Vec::new(),
            valid,
            filled,
            virtual_tokens: virtual_tokens(cached_prefixes),
            growth: Growth::Lent(runs, [None, None]),
        }
    }

    /// These rows of a cache with room: what is put here is put there. Both must be told of new slots.
    pub(crate) fn rows(&self, first: usize, rows: usize) -> Self {
        let own = |values: &Tensor| values.narrow(0, first as i64, rows as i64);
        Self {
            layers: self.layers.iter().map(|(keys, values)| (own(keys), own(values))).collect(),
            valid: own(&self.valid),
            filled: self.filled,
            virtual_tokens: self.virtual_tokens,
            growth: Growth::Room,
        }
    }

    /// Zeros between the first `tokens` and the first `widest` slots that are still to be filled: what is masked must be finite.
    pub(crate) fn blank(&self, tokens: i64, widest: i64) {
        for values in self.layers.iter().flat_map(|(keys, values)| [keys, values]).filter(|_| tokens < widest) {
            let _ = values.narrow(2, self.filled + tokens, widest - tokens).zero_();
        }
    }

    /// Counts slots as filled that were filled by way of [`KvCache::rows`].
    pub(crate) fn filled_to(&mut self, slots: i64) {
        self.filled = slots;
    }

    /// A cache of these rows, each of them as often as it is named: several continuations of one prompt.
    pub(crate) fn pick(&self, rows: &Tensor) -> Self {
        let layers = self.layers.iter().map(|(keys, values)| (keys.index_select(0, rows), values.index_select(0, rows)));
        let (filled, virtual_tokens) = (self.filled, self.virtual_tokens);
        Self { layers: layers.collect(), valid: self.valid.index_select(0, rows), filled, virtual_tokens, growth: Growth::Room }
    }

    /// Keeps only these rows: finished examples leave the batch.
    pub(crate) fn select(&mut self, rows: &Tensor) {
        for (keys, values) in &mut self.layers {
            *keys = keys.index_select(0, rows);
            *values = values.index_select(0, rows);
        }
        self.valid = self.valid.index_select(0, rows);
    }
}

fn virtual_tokens(cached_prefixes: &[Option<CachedPrefix>]) -> i64 {
    cached_prefixes.iter().flatten().map(|cached_prefix| cached_prefix.cache.virtual_tokens).max().unwrap_or(0)
}

/// `new [example, kv_head, token, head_dim]` behind what its rows go on from, which ends at the slot `before`; in `memory` if no gradient flows.
fn joined(runs: &[Run], before: i64, new: &Tensor, pick: &dyn Fn(&KvCache) -> &Tensor, memory: &mut Option<Tensor>) -> Tensor {
    if let [Run { rows, cached_prefix: Some(cached_prefix), .. }] = runs {
        let shared = cached_prefix.of(pick(&cached_prefix.cache), 2);
        if shared.requires_grad() || new.requires_grad() {
            return Tensor::cat(&[shared.expand([*rows, -1, -1, -1], false), new.shallow_clone()], 2);
        }
    }
    let mut size = new.size();
    let tokens = std::mem::replace(&mut size[2], before + new.size()[2]);
    let all = memory.get_or_insert_with(|| Tensor::empty(&size, (new.kind(), new.device())));
    runs.iter().for_each(|run| run.write(all, 2, before, pick));
    all.narrow(2, before, tokens).copy_(new);
    all.shallow_clone()
}
