//! What stands along an axis: numbers, or names.

use super::scale::shown;

/// The values along an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Along {
    /// In ascending order, each once.
    Numbers(Vec<f64>),
    /// In order of appearance or as asked for, each once.
    Names(Vec<String>),
}

impl Along {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Names(names) => names.len(),
        }
    }

    /// The places `from..to`.
    pub(crate) fn part(&self, from: usize, to: usize) -> Self {
        match self {
            Self::Numbers(values) => Self::Numbers(values[from..to].to_vec()),
            Self::Names(names) => Self::Names(names[from..to].to_vec()),
        }
    }

    /// What the axis writes at each place.
    pub(crate) fn labels(&self) -> Vec<String> {
        match self {
            Self::Numbers(values) => values.iter().map(|&value| shown(value)).collect(),
            Self::Names(names) => names.clone(),
        }
    }

    /// The places in words.
    pub(crate) fn described(&self) -> String {
        const MOST: usize = 12;
        match self {
            Self::Numbers(values) => match (values.first(), values.last()) {
                (Some(first), Some(last)) if first < last => format!("{} to {}", shown(*first), shown(*last)),
                (Some(only), _) => shown(*only),
                _ => "nothing".to_owned(),
            },
            Self::Names(names) if names.len() <= MOST => names.join(", "),
            Self::Names(names) => format!("{} values", names.len()),
        }
    }
}
