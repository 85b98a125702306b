//! Lists of names in messages.

/// All names; those that differ in their first number alone, as those of several layers do, as one: `model.layers.{0-3, 7}.mlp.up_proj`.
pub(super) fn all(names: &[String]) -> String {
    let mut groups: Vec<((&str, &str), Vec<u64>)> = Vec::new();
    for name in names {
        let (before, number, after) = parts(name);
        let place = groups.iter_mut().find(|(own, numbers)| *own == (before, after) && !numbers.is_empty());
        match (place, number) {
            (Some((_, numbers)), Some(number)) => numbers.push(number),
            (_, number) => groups.push(((before, after), number.into_iter().collect())),
        }
    }
    let shown = groups.into_iter().map(|((before, after), numbers)| match numbers.as_slice() {
        [] => before.to_owned(),
        [one] => format!("{before}{one}{after}"),
        _ => format!("{before}{{{}}}{after}", ranges(numbers)),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// What stands before and after the first part of a path that is a number; the whole name where none is.
fn parts(name: &str) -> (&str, Option<u64>, &str) {
    let mut start = 0;
    for part in name.split('.') {
        let end = start + part.len();
        if start > 0 && end < name.len() && !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_digit()) {
            // A number with zeros before it is written otherwise than it counts.
            return match part.parse::<u64>().ok().filter(|number| number.to_string() == part) {
                Some(number) => (&name[..start], Some(number), &name[end..]),
                None => (name, None, ""),
            };
        }
        start = end + 1;
    }
    (name, None, "")
}

/// `0-3, 7`.
fn ranges(mut numbers: Vec<u64>) -> String {
    numbers.sort_unstable();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, end)) if number <= *end + 1 => *end = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.into_iter().map(|(start, end)| if start == end { start.to_string() } else { format!("{start}-{end}") });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_in_the_list() {
        let of = |names: &[&str]| all(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["`a`", "`b.c`"]), "`a`, `b.c`");
        assert_eq!(of(&["`m.0.q`", "`m.0.k`", "`m.1.q`", "`m.1.k`", "`m.2.q`", "`m.5.q`"]), "`m.{0-2, 5}.q`, `m.{0-1}.k`");
        assert_eq!(of(&["`m.7.q` (needed [1], found [2])", "`m.3.q`", "`head`"]), "`m.7.q` (needed [1], found [2]), `m.3.q`, `head`");
        assert_eq!(of(&["`m.00.q`", "`m.01.q`"]), "`m.00.q`, `m.01.q`");
        let many: Vec<String> = (0..20).map(|number| format!("`w{number}`")).collect();
        assert_eq!(all(&many).matches('`').count(), 40);
    }
}
