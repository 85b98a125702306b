//! The tasks that are written to `data/tasks`, all of held-out class combinations.

use crate::lexicon::{Aspect, Class, words};
use crate::rng::Rng;
use crate::sentence::Distractors;
use crate::world::{Kind, Task, draw_labels};

/// A named task: classes that pretraining never contrasted, labels fixed.
pub struct Named {
    pub name: &'static str,
    pub kind: Kind,
    pub aspect: Aspect,
    /// `(group, wordings)` of each class; true/false asks about the first.
    pub classes: &'static [(usize, &'static [usize])],
    pub labels: &'static [&'static str],
    pub distractors: usize,
    pub shortcut: Option<Shortcut>,
    pub partners: &'static [&'static str],
}

/// Another aspect that goes with the label in every sentence of a task.
pub struct Shortcut {
    pub aspect: Aspect,
    /// Its group for each class of the task.
    pub groups: &'static [usize],
}

/// Place that goes with opinion: what is bad is at home, what is good is in the wild.
const AGREES: Shortcut = Shortcut { aspect: Aspect::Place, groups: &[0, 2] };
const DISAGREES: Shortcut = Shortcut { aspect: Aspect::Place, groups: &[2, 0] };

pub const TASKS: [Named; 10] = [
    Named {
        name: "sentiment",
        kind: Kind::Text,
        aspect: Aspect::Opinion,
        classes: &[(1, &[0]), (0, &[0])],
        labels: &["0", "1"],
        distractors: 2,
        shortcut: None,
        partners: &["sentiment_film"],
    },
    Named {
        name: "sentiment_film",
        kind: Kind::Text,
        aspect: Aspect::Opinion,
        classes: &[(1, &[1]), (0, &[1])],
        labels: &["0", "1"],
        distractors: 2,
        shortcut: None,
        partners: &["sentiment"],
    },
    Named {
        name: "topic",
        kind: Kind::Text,
        aspect: Aspect::Topic,
        classes: &[(0, &[0]), (1, &[0]), (2, &[0]), (3, &[0])],
        labels: &["0", "1", "2", "3"],
        distractors: 1,
        shortcut: None,
        partners: &["topic_people"],
    },
    Named {
        name: "topic_people",
        kind: Kind::Text,
        aspect: Aspect::Topic,
        classes: &[(0, &[1]), (1, &[1]), (2, &[1]), (3, &[1])],
        labels: &["0", "1", "2", "3"],
        distractors: 1,
        shortcut: None,
        partners: &["topic"],
    },
    Named {
        name: "truefalse",
        kind: Kind::TrueFalse,
        aspect: Aspect::Topic,
        classes: &[(8, &[0]), (9, &[0])],
        labels: &["0", "1"],
        distractors: 1,
        shortcut: None,
        partners: &[],
    },
    Named {
        name: "choice",
        kind: Kind::Choice,
        aspect: Aspect::Topic,
        classes: &[(4, &[1]), (5, &[1]), (6, &[1]), (7, &[1])],
        labels: &["apple", "Friday", "banana", "Saturday"],
        distractors: 1,
        shortcut: None,
        partners: &[],
    },
    Named {
        name: "answer",
        kind: Kind::Answer,
        aspect: Aspect::Topic,
        classes: &[(10, &[0]), (11, &[0])],
        labels: &["3", "7"],
        distractors: 2,
        shortcut: None,
        partners: &["answer_people"],
    },
    Named {
        name: "answer_people",
        kind: Kind::Answer,
        aspect: Aspect::Topic,
        classes: &[(10, &[1]), (11, &[1])],
        labels: &["3", "7"],
        distractors: 2,
        shortcut: None,
        partners: &["answer"],
    },
    Named {
        name: "shortcut",
        kind: Kind::Text,
        aspect: Aspect::Opinion,
        classes: &[(1, &[0]), (0, &[0])],
        labels: &["0", "1"],
        distractors: 1,
        shortcut: Some(AGREES),
        partners: &["shortcut_contrary"],
    },
    Named {
        name: "shortcut_contrary",
        kind: Kind::Text,
        aspect: Aspect::Opinion,
        classes: &[(1, &[0]), (0, &[0])],
        labels: &["0", "1"],
        distractors: 1,
        shortcut: Some(DISAGREES),
        partners: &[],
    },
];

impl Shortcut {
    /// Its words for each class of the task.
    fn words(&self) -> (Aspect, Vec<Vec<&'static str>>) {
        (self.aspect, self.groups.iter().map(|&group| words(self.aspect, group, 0, 8)).collect())
    }
}

impl Named {
    fn distractors(&self, rng: &mut Rng) -> Distractors {
        let all = Distractors::new(rng, self.aspect, self.distractors, 8);
        match &self.shortcut {
            Some(shortcut) => all.without(shortcut.aspect),
            None => all,
        }
    }

    /// The task; with `remap`, its labels are drawn again.
    pub fn task(&self, rng: &mut Rng, remap: bool) -> Task {
        let classes: Vec<Class> =
            self.classes.iter().map(|&(group, wordings)| Class { aspect: self.aspect, group, wordings: wordings.to_vec() }).collect();
        let mut labels: Vec<String> = self.labels.iter().map(|s| s.to_string()).collect();
        if remap && self.kind == Kind::Answer {
            let mut digits: Vec<String> = (0..10).map(|d| d.to_string()).collect();
            rng.shuffle(&mut digits);
            labels = digits[..labels.len()].to_vec();
        } else if remap {
            labels = draw_labels(rng, labels.len());
        }
        Task {
            kind: self.kind,
            aspect: self.aspect,
            classes,
            labels,
            distractors: self.distractors(rng),
            shortcut: self.shortcut.as_ref().map(Shortcut::words),
            words: 8,
            bare: false,
            themed: true,
            named: false,
        }
    }
}
