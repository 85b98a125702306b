//! Which group has which look: a method of the paper its own, whatever figure it stands in.

use crate::method::Method;
use crate::plot::palette::{MarkStyle, style};

/// Styles of named groups: a method of the paper has its own in every figure, a name in `order` that of its place there, and others take what is
/// left, as they come. An order of other things (panels) has no say.
pub(super) fn styles(groups: &[String], order: &[String]) -> Vec<MarkStyle> {
    let method = |name: &str| Method::style(name);
    let listed = groups.iter().any(|group| order.contains(group));
    let mut taken: Vec<usize> = groups.iter().filter_map(|group| method(group)).collect();
    if listed {
        taken.extend(order.iter().filter_map(|name| method(name)));
    }
    let mut fresh = {
        let taken = taken.clone();
        (0..).filter(move |index| !taken.contains(index))
    };
    let places: Vec<(&String, usize)> = match listed {
        true => order.iter().filter(|name| method(name).is_none()).zip(fresh.by_ref()).collect(),
        false => Vec::new(),
    };
    let own = |group: &String| method(group).or_else(|| places.iter().find(|(name, _)| *name == group).map(|(_, index)| *index));
    groups.iter().map(|group| style(own(group).unwrap_or_else(|| fresh.next().unwrap_or_default()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_method_looks_the_same_in_every_figure() {
        let all = styles(&names(&["ICL", "SFT", "IA2", "IA2 → SFT"]), &[]);
        assert_eq!(all, [style(0), style(1), style(2), style(3)]);
        // Alone, in another order, with others, and whatever order is asked for.
        assert_eq!(styles(&names(&["IA2"]), &[]), [style(2)]);
        assert_eq!(styles(&names(&["mine", "IA2", "his", "ICL"]), &[]), [style(1), style(2), style(3), style(0)]);
        assert_eq!(styles(&names(&["IA2", "x"]), &names(&["x", "IA2"])), [style(2), style(0)]);
        let own = styles(&Method::ALL.map(|method| method.name().to_owned()), &[]);
        assert!(own.iter().enumerate().all(|(at, style)| !own[..at].contains(style)));
    }

    #[test]
    fn other_names_keep_the_look_of_their_place_in_the_order() {
        let order = names(&["a", "b", "c"]);
        assert_eq!(styles(&names(&["c", "new"]), &order), [style(2), style(3)]);
        assert_eq!(styles(&names(&["a", "b"]), &names(&["panel"])), [style(0), style(1)]);
    }
}
