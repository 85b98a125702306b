//! How self-distillation compares, and with whom.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// How far the student's distribution `q` over the next token is from the teacher's `p`. Each is 0 where the two agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Divergence {
    /// `KL(q || p) = sum_v q_v log(q_v / p_v)`, in [0, inf): keeps the student from saying what the teacher would not.
    #[default]
    ReverseKl,
    /// `KL(p || q) = sum_v p_v log(p_v / q_v)`, in [0, inf): makes the student cover what the teacher would say.
    ForwardKl,
    /// `1/2 KL(p || m) + 1/2 KL(q || m)` with `m = (p + q) / 2`, in [0, log 2] (Jensen and Shannon; Lin 1991).
    JensenShannon,
}

/// Who has the demonstrations in context.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Teacher {
    /// The model without an adapter.
    #[default]
    Base,
    /// The student itself, as it is in each step.
    Live,
    /// The student with averaged parameters `a`, which begin as the student's and follow them after each step: `a = (1 - rate) a + rate s`,
    /// with a rate in (0, 1] (TRL's default is 0.05).
    Average(f64),
}

impl Divergence {
    /// `[token]`, from log-probabilities `[token, id]` of student and teacher.
    pub(super) fn between(self, student: &Tensor, teacher: &Tensor) -> Tensor {
        let kl = |of: &Tensor, from: &Tensor| (of.exp() * (of - from)).sum_dim_intlist([-1i64].as_slice(), false, None);
        match self {
            Self::ReverseKl => kl(student, teacher),
            Self::ForwardKl => kl(teacher, student),
            Self::JensenShannon => {
                let both = Tensor::stack(&[student, teacher], 0).logsumexp([0i64].as_slice(), false) - std::f64::consts::LN_2;
                (kl(teacher, &both) + kl(student, &both)) * 0.5
            }
        }
    }
}

/// How a grid compares student and teacher. As text, which a grid's files have: what is not as by default, `forward KL, averaged teacher 0.05, top 20`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Distilled {
    pub divergence: Divergence,
    pub teacher: Teacher,
    pub top: Option<usize>,
}

const FORWARD: &str = "forward KL";
const BOTH: &str = "JS";
const LIVE: &str = "live teacher";
const AVERAGE: &str = "averaged teacher ";
const TOP: &str = "top ";

impl fmt::Display for Distilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divergence = match self.divergence {
            Divergence::ReverseKl => None,
            Divergence::ForwardKl => Some(FORWARD.to_string()),
            Divergence::JensenShannon => Some(BOTH.to_string()),
        };
        let teacher = match self.teacher {
            Teacher::Base => None,
            Teacher::Live => Some(LIVE.to_string()),
            Teacher::Average(rate) => Some(format!("{AVERAGE}{rate}")),
        };
        let ways: Vec<String> = [divergence, teacher, self.top.map(|k| format!("{TOP}{k}"))].into_iter().flatten().collect();
        f.write_str(&ways.join(", "))
    }
}

impl From<Distilled> for String {
    fn from(how: Distilled) -> Self {
        how.to_string()
    }
}

impl TryFrom<String> for Distilled {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let mut how = Self::default();
        for part in text.split(", ").filter(|part| !part.is_empty()) {
            match part {
                FORWARD => how.divergence = Divergence::ForwardKl,
                BOTH => how.divergence = Divergence::JensenShannon,
                LIVE => how.teacher = Teacher::Live,
                other => {
                    let rate = other.strip_prefix(AVERAGE).and_then(|rate| rate.parse().ok());
                    let top = other.strip_prefix(TOP).and_then(|k| k.parse().ok());
                    match (rate, top) {
                        (Some(rate), _) => how.teacher = Teacher::Average(rate),
                        (_, Some(k)) => how.top = Some(k),
                        _ => return Err(format!("self-distillation by `{other}`, which is no way to compare")),
                    }
                }
            }
        }
        Ok(how)
    }
}
