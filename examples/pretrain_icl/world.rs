//! Few-shot episodes: a hidden rule (which aspect, which classes, which labels) and examples that follow it.

use crate::lexicon::{ASPECTS, Aspect, Class, LABELS, groups, held_out_classes, words};
use crate::rng::Rng;
use crate::sentence::{Distractors, Parts, sentence};

/// What a piece of an answer is to the loss and to the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The label: only the demonstrations tell it.
    Label,
    /// Any other part of an answer.
    Rest,
}

#[derive(Clone, Debug)]
pub struct Example {
    pub query: String,
    pub answer: Vec<(String, Role)>,
}

/// The types of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Text:..\nLabel:` with two to four classes and random labels.
    Text,
    /// Any of the forms with the names of the classes as labels, which teaches what words mean and where to keep it.
    Named,
    /// `Question:is it food? the soup was tasty\nAnswer:`, two labels; most episodes ask about one and the same class.
    TrueFalse,
    /// `Question:..\nChoices:\n..\nAnswer:` with the labels as choices, in another order each time.
    Choice,
    /// `Question:..\nAnswer:the soup is food #### 2`.
    Answer,
}

pub const KINDS: [Kind; 5] = [Kind::Text, Kind::Named, Kind::TrueFalse, Kind::Choice, Kind::Answer];

/// How hard the lessons are at some point of the training.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Words per wording.
    pub words: usize,
    /// More pairs of classes are left out; see `lexicon::held_out`.
    pub strict: bool,
    /// Wordings a class may mix.
    pub wordings: usize,
    /// Topics in use.
    pub topics: usize,
    /// Most classes an episode tells apart.
    pub classes: usize,
    /// Most distracting aspects a sentence carries.
    pub distractors: usize,
    /// Share of episodes with lone words.
    pub bare: f64,
    /// Share of each kind of `KINDS`.
    pub mix: [f64; 5],
    /// Share of true/false episodes answered by `yes` and `no`, which need no demonstrations, as lessons in meaning.
    pub open: f64,
    /// Share of true/false episodes that ask about one class only.
    pub themed: f64,
    /// Chances that the rule is about each aspect of `ASPECTS`.
    pub rule: [f64; 5],
}

/// A rule and what surrounds it; examples are drawn from it one by one.
pub struct Task {
    pub kind: Kind,
    pub aspect: Aspect,
    pub classes: Vec<Class>,
    pub labels: Vec<String>,
    pub distractors: Distractors,
    /// An aspect that goes with the label, and its words for each class; no lesson has one.
    pub shortcut: Option<(Aspect, Vec<Vec<&'static str>>)>,
    pub words: usize,
    pub bare: bool,
    /// True/false: every question asks about the first class.
    pub themed: bool,
    /// The labels are the names of the classes.
    pub named: bool,
}

/// `n` different labels.
pub fn draw_labels(rng: &mut Rng, n: usize) -> Vec<String> {
    let all: Vec<&str> = LABELS.split_whitespace().collect();
    let pool: &[&str] = match rng.below(4) {
        0 => &all[..4],
        1 => &all[..10],
        _ => &all,
    };
    let mut pool = pool.to_vec();
    rng.shuffle(&mut pool);
    pool[..n].iter().map(|s| s.to_string()).collect()
}

/// Some wordings of a group, one or several.
fn draw_wordings(rng: &mut Rng, aspect: Aspect, group: usize, most: usize) -> Vec<usize> {
    let n = groups(aspect)[group].wordings.len();
    let mut all: Vec<usize> = (0..n).collect();
    rng.shuffle(&mut all);
    all.truncate(rng.between(1, n.min(most)));
    all
}

/// `n` classes of one aspect of which no two are a held-out pair.
pub fn draw_classes(rng: &mut Rng, aspect: Aspect, n: usize, stage: &Stage) -> Vec<Class> {
    let count = if aspect == Aspect::Topic { stage.topics } else { groups(aspect).len() };
    loop {
        // the rings' opposite corners come first, so that few topics still have many pairs that may be contrasted
        let topic = |i: usize| i % 3 * 4 + [0, 2, 1, 3][i / 3];
        let mut ids: Vec<usize> = (0..count).map(|i| if aspect == Aspect::Topic { topic(i) } else { i }).collect();
        rng.shuffle(&mut ids);
        let mut classes: Vec<Class> = ids
            .iter()
            .take(n.min(count))
            .map(|&group| Class { aspect, group, wordings: draw_wordings(rng, aspect, group, stage.wordings) })
            .collect();
        if !stage.strict && matches!(aspect, Aspect::Topic | Aspect::Opinion) && rng.chance(0.4) {
            // crosswise: what is held out in one wording is contrasted in different ones
            let turn = rng.below(2);
            classes.iter_mut().for_each(|c| c.wordings = vec![(c.group + turn) % 2]);
        }
        if (0..classes.len()).all(|i| (0..i).all(|j| !held_out_classes(&classes[i], &classes[j], stage.strict))) {
            return classes;
        }
    }
}

impl Task {
    /// A random task of a kind, never contrasting a held-out pair.
    pub fn draw(rng: &mut Rng, kind: Kind, stage: &Stage) -> Task {
        let named = kind == Kind::Named;
        let kind = if named { *rng.pick(&[Kind::Text, Kind::TrueFalse, Kind::Choice, Kind::Answer]) } else { kind };
        let aspect = ASPECTS[rng.weighted(&stage.rule)];
        let most = match aspect {
            Aspect::Opinion => 2,
            Aspect::Topic => 4,
            _ => 3, // four groups with a held-out pair
        };
        let n = match kind {
            Kind::TrueFalse => rng.between(2, if aspect == Aspect::Opinion { 2 } else { 3 }),
            _ => rng.between(2, stage.classes.min(most)),
        };
        let classes = draw_classes(rng, aspect, n, stage);
        let open = rng.chance(stage.open);
        let labels = match kind {
            _ if named => classes.iter().map(|c| groups(aspect)[c.group].name.to_string()).collect(),
            Kind::TrueFalse if open => vec!["no".to_string(), "yes".to_string()],
            Kind::TrueFalse => draw_labels(rng, 2),
            Kind::Answer => {
                let mut digits: Vec<String> = (0..10).map(|d| d.to_string()).collect();
                rng.shuffle(&mut digits);
                digits.truncate(n);
                digits
            }
            _ => draw_labels(rng, n),
        };
        let bare = rng.chance(stage.bare);
        let count = if bare { 0 } else { rng.between(0, stage.distractors) };
        let distractors = Distractors::new(rng, aspect, count, stage.words);
        Task {
            kind,
            aspect,
            classes,
            labels,
            distractors,
            shortcut: None,
            words: stage.words,
            bare,
            themed: rng.chance(stage.themed),
            named,
        }
    }

    fn word(&self, rng: &mut Rng, class: &Class) -> &'static str {
        let wording = *rng.pick(&class.wordings);
        let all = words(class.aspect, class.group, wording, self.words);
        all[rng.below(all.len())]
    }

    fn name(&self, class: &Class) -> &'static str {
        groups(class.aspect)[class.group].name
    }

    /// One example whose class is `pick` modulo the number of classes (truth, for true/false).
    pub fn example(&self, rng: &mut Rng, pick: usize) -> Example {
        let label = |i: usize| (self.labels[i].clone(), Role::Label);
        let class = pick % self.classes.len();
        match self.kind {
            Kind::Text | Kind::Named | Kind::Choice | Kind::Answer => {
                let word = self.word(rng, &self.classes[class]);
                let mut parts: Parts = vec![(self.aspect, word.to_string())];
                if let Some((aspect, words)) = &self.shortcut {
                    parts.push((*aspect, rng.pick(&words[class]).to_string()));
                }
                self.distractors.add(rng, &mut parts);
                let text = sentence(rng, &parts, self.bare);
                if self.kind == Kind::Choice {
                    let mut order = self.labels.clone();
                    rng.shuffle(&mut order);
                    let query = format!("Question:{text}\nChoices:\n{}\nAnswer:", order.join("\n"));
                    return Example { query, answer: vec![label(class)] };
                }
                if self.kind != Kind::Answer {
                    return Example { query: format!("Text:{text}\nLabel:"), answer: vec![label(class)] };
                }
                let name = self.name(&self.classes[class]);
                let answer = vec![(format!("the {word} is {name} ####"), Role::Rest), (format!(" {}", self.labels[class]), Role::Label)];
                Example { query: format!("Question:{text}\nAnswer:"), answer }
            }
            Kind::TrueFalse => {
                let truth = pick % 2;
                let n = self.classes.len();
                let named = if self.themed { 0 } else { rng.below(n) };
                let subject = if truth == 1 { named } else { (named + rng.between(1, n - 1)) % n };
                let (word, name) = (self.word(rng, &self.classes[subject]), self.name(&self.classes[named]));
                let answer = vec![label(if self.named { subject } else { truth })];
                let mut parts: Parts = vec![(self.aspect, word.to_string())];
                self.distractors.add(rng, &mut parts);
                let text = sentence(rng, &parts, self.bare);
                Example { query: format!("Question:is it {name}? {text}\nAnswer:").replace("?  ", "? "), answer }
            }
        }
    }

    /// `n` examples; with `balanced`, every class comes about equally often.
    pub fn examples(&self, rng: &mut Rng, n: usize, balanced: bool) -> Vec<Example> {
        let span = match self.kind {
            Kind::TrueFalse => 2,
            _ => self.classes.len(),
        };
        let mut picks: Vec<usize> = (0..n).map(|i| if balanced { i % span } else { rng.below(span) }).collect();
        rng.shuffle(&mut picks);
        picks.into_iter().map(|p| self.example(rng, p)).collect()
    }
}
