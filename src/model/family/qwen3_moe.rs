//! Qwen3 with experts: <https://arxiv.org/abs/2505.09388>. Qwen3's attention; of many MLPs each token takes a few.

use serde_json::json;

use super::{Family, PLAIN};
use crate::error::Result;
use crate::model::config::{Config, Defaults};
use crate::model::gguf::layout::{self, Layout};
use crate::model::keys::Keys;
use crate::model::storage::{self, Storage, Stored};
use crate::nn::ExpertsShape;

pub(super) const QWEN3_MOE: Family = Family {
    model_type: "qwen3_moe",
    architecture: "Qwen3MoeForCausalLM",
    storage: Storage { experts: Stored::Each, ..storage::PLAIN },
    gguf: Some(GGUF),
    read,
    ..PLAIN
};

const GGUF: Layout = Layout {
    name: "qwen3moe",
    pre: Some("qwen2"),
    names: &[
        ("ffn_gate_inp", "mlp.gate"),
        ("ffn_gate_exps", "mlp.experts.gate_proj"),
        ("ffn_up_exps", "mlp.experts.up_proj"),
        ("ffn_down_exps", "mlp.experts.down_proj"),
    ],
    storage: &Storage { experts: Stored::Apart, ..storage::PLAIN },
    implied: |config| {
        config.insert("norm_topk_prob".into(), json!(true));
    },
    ..layout::PLAIN
};

fn read(keys: &mut Keys, family: Family) -> Result<Config> {
    keys.call(&[("num_experts", "num_local_experts")]);
    keys.default(json!({"moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8}));
    let mut config = Config::shared(keys, family, Defaults::PLAIN)?;
    config.qk_norm = true;
    config.read_biases(keys)?;
    let on = keys.flag("use_sliding_window", false)?;
    let window = keys.size("sliding_window")?.filter(|_| on);
    config.read_windows(keys, window, |_| true)?;
    let experts = ExpertsShape {
        count: keys.needed_size("num_experts")?,
        chosen: keys.needed_size("num_experts_per_tok")?,
        intermediate: keys.needed_size("moe_intermediate_size")?,
        normalised: keys.flag("norm_topk_prob", false)?,
    };
    if experts.chosen > experts.count || experts.count > 4096 {
        return Err(keys.error(format!("`num_experts_per_tok` is {} of {} experts (4096 at most)", experts.chosen, experts.count)));
    }
    config.parts.experts = Some(experts);
    let plain = keys.numbers("mlp_only_layers")?.unwrap_or_default();
    let step = keys.size("decoder_sparse_step")?.unwrap_or(1);
    for (index, layer) in config.parts.layers.iter_mut().enumerate() {
        layer.experts = !plain.contains(&(index as f64)) && (index as i64 + 1) % step == 0;
    }
    keys.ignore(&["router_aux_loss_coef", "output_router_logits", "max_window_layers"]);
    Ok(config)
}
