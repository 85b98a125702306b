//! The tasks that are written to `data/tasks`, all of held-out class combinations.

use crate::lexicon::{Aspect, Class};
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
    pub partners: &'static [&'static str],
}

pub const TASKS: [Named; 8] = [
    Named {
        name: "sentiment",
        kind: Kind::Text,
        aspect: Aspect::Opinion,
        classes: &[(1, &[0]), (0, &[0])],
        labels: &["0", "1"],
        distractors: 2,
        partners: &["sentiment_film"],
    },
    Named {
        name: "sentiment_film",
        kind: Kind::Text,
        aspect: Aspect::Opinion,
        classes: &[(1, &[1]), (0, &[1])],
        labels: &["0", "1"],
        distractors: 2,
        partners: &["sentiment"],
    },
    Named {
        name: "topic",
        kind: Kind::Text,
        aspect: Aspect::Topic,
        classes: &[(0, &[0]), (1, &[0]), (2, &[0]), (3, &[0])],
        labels: &["0", "1", "2", "3"],
        distractors: 1,
        partners: &["topic_people"],
    },
    Named {
        name: "topic_people",
        kind: Kind::Text,
        aspect: Aspect::Topic,
        classes: &[(0, &[1]), (1, &[1]), (2, &[1]), (3, &[1])],
        labels: &["0", "1", "2", "3"],
        distractors: 1,
        partners: &["topic"],
    },
    Named {
        name: "truefalse",
        kind: Kind::TrueFalse,
        aspect: Aspect::Topic,
        classes: &[(8, &[0, 1]), (9, &[0, 1])],
        labels: &["0", "1"],
        distractors: 1,
        partners: &[],
    },
    Named {
        name: "choice",
        kind: Kind::Choice,
        aspect: Aspect::Topic,
        classes: &[(4, &[0, 1]), (5, &[0, 1]), (6, &[0, 1]), (7, &[0, 1])],
        labels: &["apple", "Friday", "banana", "Saturday"],
        distractors: 1,
        partners: &[],
    },
    Named {
        name: "answer",
        kind: Kind::Answer,
        aspect: Aspect::Topic,
        classes: &[(10, &[0]), (11, &[0])],
        labels: &["3", "7"],
        distractors: 2,
        partners: &["answer_people"],
    },
    Named {
        name: "answer_people",
        kind: Kind::Answer,
        aspect: Aspect::Topic,
        classes: &[(10, &[1]), (11, &[1])],
        labels: &["3", "7"],
        distractors: 2,
        partners: &["answer"],
    },
];

impl Named {
    /// The task; with `remap`, its labels are drawn anew.
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
            distractors: Distractors::new(rng, self.aspect, self.distractors, 8),
            words: 8,
            bare: false,
            themed: true,
            named: false,
        }
    }
}
