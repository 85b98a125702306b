//! Keys and values of tokens already seen.

use tch::{Device, Kind, Tensor};

/// Preallocated keys and values per layer, `[example, kv_head, slot, head_dim]`, and which slots hold real tokens.
///
/// Prompts are padded on the right, so the slots between a short prompt and the first generated token hold padding; `valid` masks them.
/// Positions (and so rotary angles) follow the logical token, not the slot.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    valid: Tensor,
    filled: i64,
    /// How many of the first slots hold virtual tokens.
    virtual_tokens: i64,
    growth: Growth,
}

/// What happens to the keys and values of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// They are copied into room that is there already.
    Room,
    /// They are joined to those before and kept; gradients flow through them.
    Kept,
    /// Nothing but one forward reads this cache: they are joined to those before and not kept; gradients flow through them.
    Lent,
}

impl KvCache {
    /// Room for `slots` tokens of each example.
    pub fn new(layers: usize, examples: i64, kv_heads: i64, slots: i64, head_dim: i64, kind: Kind, device: Device) -> Self {
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

    /// Real tokens so far: the logical position of the next.
    pub fn tokens(&self) -> i64 {
        self.filled - self.virtual_tokens
    }

    /// Slots filled so far, those of virtual tokens included.
    pub fn len(&self) -> i64 {
        self.filled
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// `[example, slot]`: true where a filled slot holds a real token.
    pub fn valid(&self) -> Tensor {
        self.valid.narrow(1, 0, self.filled)
    }

    /// Keys and values of the first example, `[slot, 2 layer, kv_head, head_dim]`, in the order of [`Virtual::KeysValues`](super::Virtual).
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
        let (all_keys, all_values) = &self.layers[layer];
        if self.growth != Growth::Room {
            let (keys, values) = (Tensor::cat(&[all_keys, keys], 2), Tensor::cat(&[all_values, values], 2));
            if self.growth == Growth::Kept {
                self.layers[layer] = (keys.shallow_clone(), values.shallow_clone());
            }
            return (keys, values);
        }
        all_keys.narrow(2, self.filled - tokens, tokens).copy_(keys);
        all_values.narrow(2, self.filled - tokens, tokens).copy_(values);
        (all_keys.narrow(2, 0, self.filled), all_values.narrow(2, 0, self.filled))
    }

    /// A cache for `examples` continuations of this one example, the shared prefix of many prompts, with `slots` for them in all. If
    /// just one forward is to follow, the prefix is lent and not copied.
    pub(crate) fn fork(&self, examples: i64, slots: i64, lent: bool) -> Self {
        let fork = |source: &Tensor| {
            let mut size = source.size();
            (size[0], size[2]) = (examples, self.filled);
            let shared = source.narrow(2, 0, self.filled).expand(&size, false);
            if lent {
                return shared;
            }
            size[2] = slots;
            let own = Tensor::empty(&size, (source.kind(), source.device()));
            own.narrow(2, 0, self.filled).copy_(&shared);
            own
        };
        let valid = Tensor::zeros([examples, slots], (Kind::Bool, self.valid.device()));
        valid.narrow(1, 0, self.filled).copy_(&self.valid());
        Self {
            layers: self.layers.iter().map(|(keys, values)| (fork(keys), fork(values))).collect(),
            valid,
            filled: self.filled,
            virtual_tokens: self.virtual_tokens,
            growth: if lent { Growth::Lent } else { Growth::Room },
        }
    }

    /// A cache of these rows, each of them as often as it is named: several continuations of one prompt.
    pub(crate) fn pick(&self, rows: &Tensor) -> Self {
        let layers = self.layers.iter().map(|(keys, values)| (keys.index_select(0, rows), values.index_select(0, rows)));
        Self { layers: layers.collect(), valid: self.valid.index_select(0, rows), ..*self }
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
