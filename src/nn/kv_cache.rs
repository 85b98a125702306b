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
}

impl KvCache {
    /// Room for `slots` tokens of each example.
    pub fn new(layers: usize, examples: i64, kv_heads: i64, slots: i64, head_dim: i64, kind: Kind, device: Device) -> Self {
        let empty = || Tensor::empty([examples, kv_heads, slots, head_dim], (kind, device));
        Self {
            layers: (0..layers).map(|_| (empty(), empty())).collect(),
            valid: Tensor::zeros([examples, slots], (Kind::Bool, device)),
            filled: 0,
        }
    }

    /// Slots filled so far.
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
        all_keys.narrow(2, self.filled - tokens, tokens).copy_(keys);
        all_values.narrow(2, self.filled - tokens, tokens).copy_(values);
        (all_keys.narrow(2, 0, self.filled), all_values.narrow(2, 0, self.filled))
    }

    /// A cache for `examples` continuations of this one example, with room for `slots` tokens in all: the shared prefix of many prompts.
    pub(crate) fn fork(&self, examples: i64, slots: i64) -> Self {
        let widen = |source: &Tensor, axis: i64| {
            let mut size = source.size();
            size[0] = examples;
            size[axis as usize] = slots;
            let wide = Tensor::zeros(&size, (source.kind(), source.device()));
            wide.narrow(axis, 0, self.filled).copy_(&source.narrow(axis, 0, self.filled));
            wide
        };
        Self {
            layers: self.layers.iter().map(|(keys, values)| (widen(keys, 2), widen(values, 2))).collect(),
            valid: widen(&self.valid, 1),
            filled: self.filled,
        }
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
