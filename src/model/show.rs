//! How a model shows itself.

use super::Model;
use crate::display::{Bundle, Show};
use crate::tokenizer::Tokenizer;

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = self.config();
        write!(
            f,
            "Model({}, {} layers, hidden {}, {} heads / {} kv_heads, vocab {}, {:.2} M parameters, {:?} on {:?}{})",
            config.family.model_type(),
            config.layers,
            config.hidden_size,
            config.heads,
            config.kv_heads,
            config.vocab_size,
            config.parameters() as f64 / 1e6,
            self.kind(),
            self.device(),
            if self.is_adapted() { ", adapted" } else { "" }
        )
    }
}

impl Show for Model {
    fn bundle(&self) -> Bundle {
        let mut points: Vec<String> = Vec::new();
        for path in self.hook_points() {
            let pattern = match crate::nn::layer_of(path) {
                Some(layer) => path.replacen(&format!(".{layer}"), ".*", 1),
                None => path.clone(),
            };
            if !points.contains(&pattern) {
                points.push(pattern);
            }
        }
        // Lines of a width that notebook pages do not wrap.
        let mut lines = vec![format!("{self:?}")];
        lines.extend(self.config().unknown_line());
        if let Some(tokens) = self.base.tokenizer.as_ref().map(Tokenizer::vocab_size).filter(|&size| size as i64 > self.config().vocab_size)
        {
            let rows = self.config().vocab_size;
            lines.push(format!(
                "the tokenizer knows {tokens} tokens, the embedding has {rows} rows: one of the others is an error where it is used"
            ));
        }
        lines.extend([String::new(), "hook points:".into()]);
        let mut line = String::new();
        for point in points {
            if line.len() + point.len() > 92 {
                lines.push(std::mem::take(&mut line));
            }
            line.push_str("  ");
            line.push_str(&point);
        }
        lines.push(line);
        Bundle::text(lines.join("\n"))
    }
}
