//! The methods of the paper: one name, one place and (in figures) one look each, whoever draws them.

use std::borrow::Cow;

/// Each name in the order in which tables and figures have them, with other spellings of it.
pub(crate) const METHODS: [(&str, &[&str]); 11] = [
    ("zero-shot", &[]),
    ("ICL", &[]),
    ("SFT", &["SFT only"]),
    ("SFT on ICL", &["SFT on ICL responses"]),
    ("soft labels", &[]),
    ("self-distillation", &[]),
    ("cartridge", &[]),
    ("IA2", &["IA2 only"]),
    ("IA2 → SFT", &["IA2 -> SFT"]),
    ("SFT → IA2", &["SFT -> IA2"]),
    ("IA2 + SFT", &[]),
];

/// The place of the method of this name, however it is spelled.
pub(crate) fn place(name: &str) -> Option<usize> {
    METHODS.iter().position(|(method, others)| *method == name || others.contains(&name))
}

/// The name as all write it; of a pair (`SFT only / IA2 only`), both. What is no method stays as it is.
pub(crate) fn canonical(name: &str) -> Cow<'_, str> {
    let one = |name| place(name).map_or(name, |place| METHODS[place].0);
    match name.contains(" / ") {
        true => Cow::Owned(name.split(" / ").map(one).collect::<Vec<_>>().join(" / ")),
        false => Cow::Borrowed(one(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_method_has_one_name() {
        let names = ["SFT only", "IA2 -> SFT", "IA2 only / IA2 -> SFT", "SFT / x", "block"];
        assert_eq!(names.map(canonical), ["SFT", "IA2 → SFT", "IA2 / IA2 → SFT", "SFT / x", "block"]);
        assert_eq!([place("SFT only"), place("SFT"), place("other")], [Some(2), Some(2), None]);
        for method in crate::experiment::Method::ALL {
            assert!(METHODS.iter().any(|(name, _)| *name == method.name()), "{} is not listed", method.name());
        }
    }
}
