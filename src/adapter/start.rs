//! How virtual tokens start.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Error, Result};
use crate::kind::wide;
use crate::model::Model;
use crate::random::Random;

/// What virtual tokens are before training.
///
/// Prompt tuning starts with the embeddings themselves, prefix tuning with the keys and values that the model computes from them, so that both
/// start as the same adapted model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Embeddings of tokens drawn from the whole vocabulary, no token twice: real words start better than noise (Lester et al. 2021,
    /// arXiv:2104.08691, section 3.2; Li and Liang 2021, arXiv:2101.00190, section 7.4).
    #[default]
    Vocabulary,
    /// Every component normal with mean 0 and the standard deviation of the model's embeddings, so that virtual tokens are about as long as real
    /// ones. (PEFT's random start is normal with standard deviation 1, some ten times longer than the embeddings of large models.)
    Random,
    /// Embeddings of the text's tokens, special ones included, cut or repeated to the number of virtual tokens as PEFT does.
    Text(String),
}

impl Start {
    /// Embeddings `[virtual, hidden]` to start with.
    pub(super) fn embeddings(&self, model: &Model, tokens: i64, seed: u64) -> Result<Tensor> {
        let table = model.weight("model.embed_tokens.weight")?;
        let (kind, count) = (wide(table.kind()), check(tokens, model.config().max_positions)?);
        let mut draws = Random::new(seed, "virtual tokens", 0);
        let ids = match self {
            Self::Random => {
                // Of embeddings as they enter the model.
                let deviation = table.std(false).double_value(&[]) * model.config().parts.embedding_scale.unwrap_or(1.0);
                let width = model.config().hidden_size;
                let values: Vec<f64> = (0..tokens * width).map(|_| normal(&mut draws) * deviation).collect();
                return Ok(Tensor::from_slice(&values).view([tokens, width]).to_kind(kind).to_device(table.device()));
            }
            Self::Vocabulary => {
                // A table may have more rows than there are tokens: those were never trained. Or fewer.
                let rows = table.size()[0];
                let size = model.tokenizer().map_or(rows, |tokenizer| rows.min(tokenizer.vocab_size() as i64));
                if tokens > size {
                    return Err(Error::input(format!("{tokens} virtual tokens cannot start as different ones of a vocabulary of {size}")));
                }
                draws.choose(count, size as usize).into_iter().map(|id| id as i64).collect::<Vec<_>>()
            }
            Self::Text(text) => {
                let ids = model.tokenizer()?.encode(text)?;
                model.check_ids(&ids).map_err(|error| error.context("the text to start with"))?;
                ids.into_iter().map(i64::from).cycle().take(count).collect()
            }
        };
        Ok(model.decoder().embed(&Tensor::from_slice(&ids).to_device(table.device()))?.to_kind(kind))
    }
}

/// Virtual tokens take places of the context, so more than that could never be used.
fn check(tokens: i64, context: i64) -> Result<usize> {
    match usize::try_from(tokens) {
        Ok(count) if tokens <= context => Ok(count),
        Ok(_) => Err(Error::input(format!("{tokens} virtual tokens, but the model's context is {context}: use fewer"))),
        Err(_) => Err(Error::input(format!("{tokens} virtual tokens: their number cannot be negative"))),
    }
}

/// A standard normal draw (Box and Muller 1958).
fn normal(draws: &mut Random) -> f64 {
    (-2.0 * (1.0 - draws.unit()).ln()).sqrt() * (std::f64::consts::TAU * draws.unit()).cos()
}
