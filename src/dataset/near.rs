//! Queries to test on that nearly repeat one that is learned from.

use std::collections::HashMap;

use crate::error::Result;
use crate::interrupt;

/// The least share of words that near-duplicates have in common, in tenths.
const ALIKE: usize = 9;

/// A query to test on, the query to learn from that is most like it, and their likeness.
pub(super) struct Near {
    pub tested: usize,
    pub learned: usize,
    /// Words in common as a share of all words of the two, each counted as often as it comes (Jaccard's index of multisets).
    pub likeness: f64,
}

/// The queries of `tested` that have nine tenths of their words in common with one of `learned`. Case, spacing, punctuation and the order of words
/// do not count, and neither do the words with which all queries begin or end: they are the template's.
pub(super) fn near(learned: &[&str], tested: &[&str]) -> Result<Vec<Near>> {
    let words: Vec<Vec<String>> =
        learned.iter().chain(tested).map(|query| interrupt::check().map(|()| words(query))).collect::<Result<_>>()?;
    let own = without_template(&words);
    let sets = ranked(&own);
    let (learned, tested) = sets.split_at(learned.len());
    // Two sets that share nine tenths of their words share one of the few that they have besides: only those need be looked up. The rarest of all
    // words come first, so that few sets meet there (Bayardo, Ma and Srikant 2007).
    let looked_up = |set: &[u32]| set.len() - (ALIKE * set.len()).div_ceil(10) + usize::from(!set.is_empty());
    let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
    for (place, set) in learned.iter().enumerate() {
        set[..looked_up(set)].iter().for_each(|&word| places.entry(word).or_default().push(place));
    }
    let mut found = Vec::new();
    for (place, set) in tested.iter().enumerate() {
        interrupt::at(place as u64, tested.len() as u64, "test queries")?;
        let mut met: Vec<usize> = set[..looked_up(set)].iter().filter_map(|word| places.get(word)).flatten().copied().collect();
        met.sort_unstable();
        met.dedup();
        let shares = met.into_iter().map(|other| (other, shared(set, &learned[other])));
        let alike = shares.filter(|(_, (common, all))| 10 * common >= ALIKE * all);
        let likeness = |(common, all): (usize, usize)| common as f64 / all as f64;
        // Of equally near ones the first.
        let best = alike.map(|(other, share)| (other, likeness(share))).reduce(|best, next| if next.1 > best.1 { next } else { best });
        found.extend(best.map(|(other, likeness)| Near { tested: place, learned: other, likeness }));
    }
    Ok(found)
}

/// A text's words in lower case. Letters of scripts without spaces are words of their own, and so are signs that are part of a formula.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut open) = (Vec::<String>::new(), false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let unspaced =
            matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{e00}'..='\u{e7f}');
        let sign = match letter {
            '+' | '*' | '/' | '=' | '<' | '>' | '^' | '%' | '×' | '÷' | '−' => true,
            // A minus, not a hyphen.
            '-' => !open && letters.clone().find(|next| *next != ' ').is_some_and(|next| next.is_ascii_digit()),
            _ => false,
        };
        match letter.is_alphanumeric() && !unspaced {
            true if open => words.last_mut().into_iter().for_each(|word| word.extend(letter.to_lowercase())),
            true => words.push(letter.to_lowercase().collect()),
            false if unspaced || sign => words.push(letter.to_string()),
            // An apostrophe or a joining mark keeps a word together.
            false if open && matches!(letter, '\'' | '’') => continue,
            false => {}
        }
        open = letter.is_alphanumeric() && !unspaced;
    }
    words
}

/// Each text without the words that all begin with and those that all end with.
fn without_template(texts: &[Vec<String>]) -> Vec<&[String]> {
    let least = texts.iter().map(Vec::len).min().unwrap_or(0);
    let same = |at: &dyn Fn(&Vec<String>) -> usize| texts.windows(2).all(|pair| pair[0][at(&pair[0])] == pair[1][at(&pair[1])]);
    let front = (0..least).take_while(|&place| same(&|_| place)).count();
    let back = (0..least - front).take_while(|&place| same(&|text| text.len() - 1 - place)).count();
    // Texts that are all the same have no template that could be told from what they say.
    let (front, back) = if front + back == least && texts.iter().all(|text| text.len() == least) { (0, 0) } else { (front, back) };
    texts.iter().map(|text| &text[front..text.len() - back]).collect()
}

/// Each text as a sorted set of numbers: one for each word and time it comes, the smaller the rarer.
fn ranked(texts: &[&[String]]) -> Vec<Vec<u32>> {
    let mut numbers: HashMap<(&str, u32), (u32, usize)> = HashMap::new();
    let mut sets = Vec::with_capacity(texts.len());
    for text in texts {
        let mut times: HashMap<&str, u32> = HashMap::new();
        let set: Vec<u32> = text
            .iter()
            .map(|word| {
                let time = times.entry(word).or_default();
                *time += 1;
                let next = numbers.len() as u32;
                let (number, count) = numbers.entry((word, *time)).or_insert((next, 0));
                *count += 1;
                *number
            })
            .collect();
        sets.push(set);
    }
    let mut by_count: Vec<(u32, usize)> = numbers.into_values().collect();
    by_count.sort_unstable_by_key(|&(number, count)| (count, number));
    let mut rank = vec![0; by_count.len()];
    by_count.iter().enumerate().for_each(|(place, (number, _))| rank[*number as usize] = place as u32);
    for set in &mut sets {
        set.iter_mut().for_each(|number| *number = rank[*number as usize]);
        set.sort_unstable();
    }
    sets
}

/// How many numbers two sorted sets share, and how many there are in all.
fn shared(one: &[u32], other: &[u32]) -> (usize, usize) {
    let (mut a, mut b, mut common) = (0, 0, 0);
    while let (Some(x), Some(y)) = (one.get(a), other.get(b)) {
        common += usize::from(x == y);
        (a, b) = (a + usize::from(x <= y), b + usize::from(y <= x));
    }
    (common, one.len() + other.len() - common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(learned: &[&str], tested: &[&str]) -> Vec<(usize, usize)> {
        near(learned, tested).unwrap().iter().map(|near| (near.tested, near.learned)).collect()
    }

    #[test]
    fn case_punctuation_and_spacing_do_not_count_but_words_do() {
        let learned = ["Text:The film's plot was fine.\nLabel:", "Text:a dull, long evening\nLabel:"];
        assert_eq!(pairs(&learned, &["Text:the FILM’S plot was  fine!\nLabel:", "Text:another thing\nLabel:"]), [(0, 0)]);
        assert_eq!(pairs(&learned, &["Text:a dull evening\nLabel:", "Text:a dull, short evening\nLabel:"]), []);
        let found = near(&learned, &["Text:A dull long evening\nLabel:", "Text:x\nLabel:"]).unwrap();
        assert_eq!((found.len(), found[0].learned, found[0].likeness), (1, 1, 1.0));
    }

    #[test]
    fn the_template_makes_nothing_alike() {
        // Nine of ten words are the template's.
        let template = |word: &str| format!("Is the following word one that a child knows? {word} Answer:");
        let (sun, moon) = (template("sun"), template("moon"));
        assert_eq!(pairs(&[&sun], &[&moon]), []);
        assert_eq!(pairs(&[&sun], &[&sun]), [(0, 0)]);
    }

    #[test]
    fn one_word_in_twenty_may_differ_and_formulas_may_not() {
        let long: Vec<String> = (0..20).map(|word| format!("w{word}")).collect();
        let mut other = long.clone();
        other[7] = "else".into();
        let found = near(&[&long.join(" ")], &[&other.join(" "), "unlike in every way"]).unwrap();
        assert_eq!((found.len(), found[0].tested), (1, 0));
        assert!((found[0].likeness - 19.0 / 21.0).abs() < 1e-12);
        assert_eq!(pairs(&["Question:12 + 7\nAnswer:"], &["Question:12 - 7\nAnswer:", "Question:12 * 7\nAnswer:"]), []);
        assert_eq!(pairs(&["state-of-the-art film x"], &["state of the art film x", "y"]), [(0, 0)]);
        assert_eq!(pairs(&["这部电影很好看"], &["这部电影很难看", "这部电影，很好看。"]), [(1, 0)]);
        assert_eq!(pairs(&[], &["a"]), []);
        assert_eq!(pairs(&["...", "a"], &["!!!", "b"]), []);
    }

    /// The few words looked up find what comparing all with all finds.
    #[test]
    fn nothing_is_missed() {
        let mut random = crate::random::Random::new(1, "near", 0);
        let mut draw = |count: usize| -> Vec<String> {
            let one = |random: &mut crate::random::Random| {
                let length = 1 + random.below(25);
                (0..length).map(|_| format!("w{}", random.below(3 + length / 4))).collect::<Vec<_>>().join(" ")
            };
            (0..count).map(|_| one(&mut random)).collect()
        };
        let (learned, tested) = (draw(150), draw(150));
        let of = |texts: &[String]| texts.iter().map(|text| words(text)).collect::<Vec<_>>();
        let both = [of(&learned), of(&tested)].concat();
        let sets = ranked(&both.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let alike = |test: usize| {
            let shares = (0..150).map(|place| shared(&sets[150 + test], &sets[place]));
            shares.into_iter().any(|(common, all)| common as f64 / all as f64 >= 0.9)
        };
        let expected: Vec<usize> = (0..150).filter(|&test| alike(test)).collect();
        let found =
            near(&learned.iter().map(String::as_str).collect::<Vec<_>>(), &tested.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert!(expected.len() > 10, "{}", expected.len());
        assert_eq!(found.iter().map(|near| near.tested).collect::<Vec<_>>(), expected);
    }
}
