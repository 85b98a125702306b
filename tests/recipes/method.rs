//! ICL at a higher temperature.

use polars::prelude::DataFrame;

use super::{Entry, PLAIN, Way};
use crate::error::Result;
use crate::metric::with_temperature;
use crate::model::Model;
use crate::prompt::Prompts;

pub(super) const ENTRY: Entry = Entry { name: "ICL, softened", style: 17, needs_labels: true, way: Way::Icl(softened), ..PLAIN };

/// The answers of ICL at temperature 2.
fn softened(_: &Model, _: &Prompts, answers: &DataFrame) -> Result<DataFrame> {
    with_temperature(answers, 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stay_and_confidence_falls() -> Result<()> {
        use crate::metric::mean_confidence;
        use crate::prelude::*;
        let model = Model::open("tiny-icl")?;
        let split = Task::open("sentiment")?.test_at_most(6)?.few_shot(4, 0)?;
        let prompts = split.test.with_demonstrations(&split.train, 0)?;
        let before = evaluate(&model, &prompts)?;
        let Way::Icl(made_of) = ENTRY.way else { panic!("it is a way of ICL") };
        let after = made_of(&model, &prompts, &before)?;
        assert_eq!(accuracy(&after)?, accuracy(&before)?);
        assert!(mean_confidence(&after)? < mean_confidence(&before)?);
        Ok(())
    }
}
