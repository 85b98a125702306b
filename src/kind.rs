//! Kinds of numbers: in which is computed, and what files call them.

use safetensors::tensor::Dtype;
use tch::{Kind, Tensor};

/// The kinds that weights and activations are held in.
const FLOATS: [Kind; 4] = [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double];

/// What this library stores numbers in, as safetensors' header calls it.
const STORED: [(Kind, Dtype); 5] = [
    (Kind::Float, Dtype::F32),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Half, Dtype::F16),
    (Kind::Double, Dtype::F64),
    (Kind::Int64, Dtype::I64),
];

/// What a model's weights are stored in, as its `config.json` calls it.
const WEIGHTS: [(Kind, &str); 3] = [(Kind::Float, "float32"), (Kind::BFloat16, "bfloat16"), (Kind::Half, "float16")];

/// At least f32, in which sums and losses are computed: f64 stays f64.
pub(crate) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// Values in at least f32.
pub(crate) fn widened(values: &Tensor) -> Tensor {
    values.to_kind(wide(values.kind()))
}

pub(crate) fn is_float(kind: Kind) -> bool {
    FLOATS.contains(&kind)
}

/// The kind of weights that was written down as `Float` or `BFloat16`.
pub(crate) fn written(name: &str) -> Option<Kind> {
    FLOATS.into_iter().find(|kind| format!("{kind:?}") == name)
}

/// The kind of a stored type; `None` for those that this library stores nothing in.
pub(crate) fn of_dtype(dtype: Dtype) -> Option<Kind> {
    STORED.into_iter().find(|(_, own)| *own == dtype).map(|(kind, _)| kind)
}

pub(crate) fn dtype(kind: Kind) -> Option<Dtype> {
    STORED.into_iter().find(|(own, _)| *own == kind).map(|(_, dtype)| dtype)
}

/// The kind of weights that a `config.json` calls so.
pub(crate) fn of_config(name: &str) -> Option<Kind> {
    WEIGHTS.into_iter().find(|(_, own)| *own == name).map(|(kind, _)| kind)
}

/// What a `config.json` calls this kind of weights; `None` for one that model files do not hold.
pub(crate) fn in_config(kind: Kind) -> Option<&'static str> {
    WEIGHTS.into_iter().find(|(own, _)| *own == kind).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_a_kind_is_read_as_it() {
        for kind in FLOATS {
            assert_eq!(written(&format!("{kind:?}")), Some(kind));
            assert_eq!(dtype(kind).and_then(of_dtype), Some(kind));
            assert_eq!(in_config(kind).and_then(of_config), Some(kind).filter(|kind| *kind != Kind::Double));
        }
        assert_eq!((written("Int64"), dtype(Kind::Bool), of_dtype(Dtype::U8), of_config("int8")), (None, None, None, None));
        assert_eq!((in_config(Kind::BFloat16), dtype(Kind::Int64)), (Some("bfloat16"), Some(Dtype::I64)));
    }

    #[test]
    fn only_f64_stays_wider_than_f32() {
        let kinds = [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double, Kind::Int64]
            .map(|kind| widened(&Tensor::from(0.5).to_kind(kind)).kind());
        assert_eq!(kinds, [Kind::Float, Kind::Float, Kind::Float, Kind::Double, Kind::Float]);
        assert!(FLOATS.into_iter().all(is_float) && !is_float(Kind::Int64));
    }
}
