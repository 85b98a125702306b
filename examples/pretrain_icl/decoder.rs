//! The decoder while it is trained: Qwen3 layout and weight names, f32 weights, matrix products in bf16.
//!
//! On a CPU with bf16 instructions the products are about five times as fast as in f32, and a small model is trained as
//! well. Attention is written out, because libtorch's fused attention has a slow backward in bf16.
//! In f32 the same code is the exact model, as the library and transformers run it.

use tch::{Device, Kind, Tensor, nn};

/// Shape of the model.
#[derive(Clone, Debug)]
pub struct Config {
    pub vocab: i64,
    pub hidden: i64,
    pub layers: i64,
    pub heads: i64,
    pub kv_heads: i64,
    pub head_dim: i64,
    pub mlp: i64,
    pub positions: i64,
}

pub const THETA: f64 = 10_000.0;
pub const EPS: f64 = 1e-6;

struct Layer {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
    input_norm: Tensor,
    post_norm: Tensor,
    q_norm: Tensor,
    k_norm: Tensor,
}

pub struct Decoder {
    pub config: Config,
    embed: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

fn rms(x: &Tensor) -> Tensor {
    x * (x.square().mean_dim(-1, true, None) + EPS).rsqrt()
}

impl Decoder {
    /// Fresh weights (normal, `std`) under their Hugging Face names; norms are in group 1 of the optimiser.
    pub fn new(vs: &nn::VarStore, config: Config, std: f64) -> Decoder {
        let c = &config;
        let root = vs.root();
        let matrix = |p: nn::Path, rows: i64, cols: i64| p.var("weight", &[rows, cols], nn::Init::Randn { mean: 0.0, stdev: std });
        let scale = |p: nn::Path, n: i64| p.set_group(1).var("weight", &[n], nn::Init::Const(1.0));
        let model = root / "model";
        let embed = matrix(&model / "embed_tokens", c.vocab, c.hidden);
        let layers = (0..c.layers)
            .map(|i| {
                let at = &model / "layers" / i;
                let (attn, mlp) = (&at / "self_attn", &at / "mlp");
                Layer {
                    q: matrix(&attn / "q_proj", c.heads * c.head_dim, c.hidden),
                    k: matrix(&attn / "k_proj", c.kv_heads * c.head_dim, c.hidden),
                    v: matrix(&attn / "v_proj", c.kv_heads * c.head_dim, c.hidden),
                    o: matrix(&attn / "o_proj", c.hidden, c.heads * c.head_dim),
                    gate: matrix(&mlp / "gate_proj", c.mlp, c.hidden),
                    up: matrix(&mlp / "up_proj", c.mlp, c.hidden),
                    down: matrix(&mlp / "down_proj", c.hidden, c.mlp),
                    input_norm: scale(&at / "input_layernorm", c.hidden),
                    post_norm: scale(&at / "post_attention_layernorm", c.hidden),
                    q_norm: scale(&attn / "q_norm", c.head_dim),
                    k_norm: scale(&attn / "k_norm", c.head_dim),
                }
            })
            .collect();
        let norm = scale(&model / "norm", c.hidden);
        let half = Tensor::arange_start_step(0, c.head_dim, 2, (Kind::Float, Device::Cpu)) / c.head_dim as f64;
        let angle = Tensor::arange(c.positions, (Kind::Float, Device::Cpu)).outer(&(half * -THETA.ln()).exp());
        let angle = Tensor::cat(&[&angle, &angle], -1);
        let mask = Tensor::full([c.positions, c.positions], f64::NEG_INFINITY, (Kind::Float, Device::Cpu)).triu(1);
        Decoder { cos: angle.cos(), sin: angle.sin(), mask, embed, layers, norm, config }
    }

    /// Ids `[rows, tokens]` to final hidden states `[rows, tokens, hidden]`; products in `kind`.
    pub fn hidden(&self, ids: &Tensor, kind: Kind) -> Tensor {
        let (rows, tokens) = ids.size2().expect("ids are [rows, tokens]");
        let positions = |t: &Tensor| t.narrow(0, 0, tokens).unsqueeze(1).to_kind(kind);
        let (cos, sin) = (positions(&self.cos), positions(&self.sin));
        let mask = self.mask.narrow(0, 0, tokens).narrow(1, 0, tokens).to_kind(kind);
        let mut x = Tensor::embedding(&self.embed, ids, -1, false, false).view([rows * tokens, -1]);
        for layer in &self.layers {
            let h = (rms(&x) * &layer.input_norm).to_kind(kind);
            x = x.g_add(&self.attention(layer, &h, rows, tokens, (&cos, &sin, &mask)));
            let h = (rms(&x) * &layer.post_norm).to_kind(kind);
            let both = h.matmul(&Tensor::cat(&[&layer.gate, &layer.up], 0).to_kind(kind).tr());
            let halves = both.chunk(2, -1);
            x = x.g_add(&(halves[0].silu() * &halves[1]).matmul(&layer.down.to_kind(kind).tr()));
        }
        (rms(&x) * &self.norm).view([rows, tokens, -1])
    }

    fn attention(&self, layer: &Layer, h: &Tensor, rows: i64, tokens: i64, (cos, sin, mask): (&Tensor, &Tensor, &Tensor)) -> Tensor {
        let c = &self.config;
        let (heads, kv, dim, kind) = (c.heads, c.kv_heads, c.head_dim, h.kind());
        let weight = Tensor::cat(&[&layer.q, &layer.k, &layer.v], 0).to_kind(kind);
        let qkv = h.matmul(&weight.tr()).view([rows, tokens, heads + 2 * kv, dim]);
        let scale = Tensor::cat(&[layer.q_norm.expand([heads, dim], false), layer.k_norm.expand([kv, dim], false)], 0);
        let qk = rms(&qkv.narrow(2, 0, heads + kv)) * scale.to_kind(kind);
        let halves = qk.chunk(2, -1);
        let qk = qk * cos + Tensor::cat(&[&-&halves[1], &halves[0]], -1) * sin;
        let shared = |t: Tensor| t.unsqueeze(3).expand([rows, tokens, kv, heads / kv, dim], false).reshape([rows, tokens, heads, dim]);
        let flat = |t: Tensor| t.transpose(1, 2).reshape([rows * heads, tokens, dim]);
        let q = flat(qk.narrow(2, 0, heads)) * (dim as f64).powf(-0.5);
        let k = flat(shared(qk.narrow(2, heads, kv)));
        let v = flat(shared(qkv.narrow(2, heads + kv, kv)));
        let pattern = mask.baddbmm(&q, &k.transpose(1, 2), 1.0, 1.0).softmax(-1, None::<Kind>);
        let mixed = pattern.bmm(&v).view([rows, heads, tokens, dim]).transpose(1, 2).reshape([rows * tokens, -1]);
        mixed.matmul(&layer.o.to_kind(kind).tr())
    }

    /// Logits (f32) of chosen hidden states `[n, hidden]`; the output weights are the embedding.
    pub fn logits(&self, hidden: &Tensor, kind: Kind) -> Tensor {
        hidden.to_kind(kind).matmul(&self.embed.to_kind(kind).tr()).to_kind(Kind::Float)
    }
}
