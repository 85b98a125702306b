//! Numbers in JSON that come back with every bit.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number as serde writes one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Exact(pub f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

/// A JSON number where reading it gives the same bits, else the shortest decimal text that does: serde_json's quick reader may be off in
/// the last bit, and JSON has no infinity.
///
/// serde_json's feature `float_roundtrip` is no way round this: it has no infinity either, files hold such texts, and the key of a run is a digest
/// of what is written here.
pub(crate) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // As serde_json would write it: infinity reads as null, and fails here.
    let read = serde_json::to_string(value).and_then(|text| serde_json::from_str::<f64>(&text));
    match read {
        Ok(read) if read.to_bits() == value.to_bits() => serializer.serialize_f64(*value),
        _ => serializer.serialize_str(&format!("{value:?}")),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Written::deserialize(deserializer)? {
        Written::Number(value) => Ok(value),
        Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

/// A number that may be missing.
pub(crate) mod maybe {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Exact).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Exact>::deserialize(deserializer)?.map(|value| value.0))
    }
}

/// A list of numbers.
pub(crate) mod many {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().copied().map(Exact))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        Ok(Vec::<Exact>::deserialize(deserializer)?.into_iter().map(|value| value.0).collect())
    }
}

/// Numbers by their names.
pub(crate) mod named {
    use std::collections::BTreeMap;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(values.iter().map(|(name, value)| (name, Exact(*value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
        Ok(BTreeMap::<String, Exact>::deserialize(deserializer)?.into_iter().map(|(name, value)| (name, value.0)).collect())
    }
}

/// A list of numbers, each with the place that it belongs to.
pub(crate) mod placed {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[(Option<u32>, f64)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|(place, value)| (place, Exact(*value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(Option<u32>, f64)>, D::Error> {
        Ok(Vec::<(Option<u32>, Exact)>::deserialize(deserializer)?.into_iter().map(|(place, value)| (place, value.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn every_number_comes_back_with_its_bits() {
        let mut random = Random::new(0, "numbers", 0);
        let mut values = vec![0.0, -0.0, 1e-3, 0.1 + 0.2, f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NEG_INFINITY];
        values.extend((0..5000).map(|place| random.unit() * 10f64.powi(place % 60 - 30)));
        let mut texts = 0;
        for value in values {
            let text = serde_json::to_string(&Exact(value)).unwrap();
            texts += usize::from(text.starts_with('"'));
            assert_eq!(serde_json::from_str::<Exact>(&text).unwrap().0.to_bits(), value.to_bits(), "{text}");
        }
        // What files hold and keys are digests of.
        for (value, text) in [(1e-3, "0.001"), (f64::INFINITY, "\"inf\""), (-0.0, "-0.0")] {
            assert_eq!(serde_json::to_string(&Exact(value)).unwrap(), text);
        }
        assert!(texts > 100, "{texts} numbers of 5000 are written as text");
    }
}
