//! Observers and editors: what they see, what they change, and that nothing of them stays.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use common::{apart, golden_folder, refused, speaking};
use ia2::dataset::{Card, Split, Task};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples};
use ia2::{Error, Result};

const NAME: &str = "qwen3_grouped_tied";

fn model() -> Result<Model> {
    Model::open(golden_folder(NAME))
}

/// Ragged, so that prefill pads.
fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 7, 9, 12, 33, 40, 41], vec![1, 3], vec![1, 50, 22, 8]]
}

fn settings() -> Generation {
    Generation::greedy(8).ignore_eos()
}

fn tokens(generated: Vec<ia2::model::Generated>) -> Vec<Vec<u32>> {
    generated.into_iter().map(|row| row.tokens.response).collect()
}

/// A real error of the library, for a hook to return.
fn some_error() -> Error {
    common::failed("a hook's own error")
}

/// Doubles the value of one example at one position, wherever it stands in the batch.
fn double_at(example: usize, position: i64) -> impl FnMut(&ia2::nn::HookPoint<'_>, &Tensor) -> Result<Option<Tensor>> {
    move |point, value| {
        let Some(row) = point.examples.iter().position(|&own| own == example) else { return Ok(None) };
        let positions: Vec<Vec<i64>> = Vec::try_from(point.positions).unwrap();
        let positions = &positions[row.min(positions.len() - 1)];
        let Some(token) = positions.iter().position(|&own| own == position) else { return Ok(None) };
        let changed = value.copy();
        let place = changed.get(row as i64).get(token as i64);
        place.shallow_clone().copy_(&(&place * -3.0));
        Ok(Some(changed))
    }
}

#[test]
fn observers_see_the_values_of_a_plain_forward_during_cached_generation() -> Result<()> {
    let model = model()?;
    let prompts = prompts();
    let paths = [
        "model.embed_tokens",
        "model.layers.0.self_attn",
        "model.layers.1.mlp.up_proj",
        "model.layers.2.self_attn.q_proj",
        "model.layers.2",
        "model.norm",
        "lm_head",
    ];
    let seen: RefCell<HashMap<(String, usize, i64), Tensor>> = RefCell::default();
    let mut hooks = Hooks::new();
    hooks.observe(&paths.join(", "), |point, value| {
        assert_eq!(value.size()[0] as usize, point.examples.len());
        let positions: Vec<Vec<i64>> = Vec::try_from(point.positions).unwrap();
        for (row, &example) in point.examples.iter().enumerate() {
            let positions = &positions[row.min(positions.len() - 1)];
            // The head computes the decode position alone; everything else one value per token.
            assert_eq!(positions.len() as i64, value.size()[1], "{}", point.path);
            for (token, &position) in positions.iter().enumerate() {
                let padding = positions.len() > 1 && position >= prompts[example].len() as i64;
                let key = (point.path.to_string(), example, position);
                if !padding {
                    assert!(seen.borrow_mut().insert(key, value.get(row as i64).get(token as i64).copy()).is_none(), "seen twice");
                }
            }
        }
        Ok(())
    });
    // Batches of two: the third prompt's rows are not the caller's indices.
    let generated = model.generate_with(&prompts, &settings().batch(2), &mut hooks)?;
    drop(hooks);
    let seen = seen.into_inner();
    assert_eq!(tokens(generated.clone()), tokens(model.generate(&prompts, &settings())?), "observing changed the tokens");

    let mut expected = 0;
    for (example, row) in generated.iter().enumerate() {
        let read = [row.tokens.prompt.clone(), row.tokens.response[..7].to_vec()].concat();
        let compared = Cell::new(0);
        let mut hooks = Hooks::new();
        hooks.observe(&paths.join(", "), |point, value| {
            let from = if point.path == "lm_head" { row.tokens.prompt.len() - 1 } else { 0 };
            for position in from..read.len() {
                let own = &seen[&(point.path.to_string(), example, position as i64)];
                let distance = apart(own, &value.get(0).get(position as i64));
                assert!(distance < 1e-5, "{} of example {example} at {position}: {distance:.1e}", point.path);
                compared.set(compared.get() + 1);
            }
            Ok(())
        });
        model.forward_with(std::slice::from_ref(&read), &mut hooks)?;
        expected += compared.get();
    }
    assert_eq!(seen.len(), expected, "hooks saw positions that no forward has");
    Ok(())
}

#[test]
fn an_edit_during_generation_is_the_edit_of_a_forward() -> Result<()> {
    let model = model()?;
    let prompts = prompts();
    let plain = tokens(model.generate(&prompts, &settings())?);
    for path in ["model.layers.0.self_attn", "model.layers.2.mlp", "model.layers.1.self_attn.v_proj", "model.layers.1.self_attn.pattern"] {
        let edit = |_: &ia2::nn::HookPoint<'_>, value: &Tensor| Ok(Some(value * -2.0));
        let mut hooks = Hooks::new();
        hooks.edit(path, edit);
        let generated = model.generate_with(&prompts, &settings(), &mut hooks)?;
        assert_ne!(tokens(generated.clone()), plain, "editing {path} changed no token");
        for row in &generated {
            let read = [row.tokens.prompt.clone(), row.tokens.response[..7].to_vec()].concat();
            // The same hooks again, in a forward: each call binds them again.
            let logits = model.forward_with(&[read], &mut hooks)?.values.get(0);
            let start = row.tokens.prompt.len() as i64 - 1;
            let best: Vec<i64> = Vec::try_from(logits.narrow(0, start, 8).argmax(-1, false)).unwrap();
            assert_eq!(best, row.tokens.response.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), "{path}");
        }
    }
    Ok(())
}

#[test]
fn an_edit_of_one_position_of_one_example_changes_nothing_before_it_and_no_other_example() -> Result<()> {
    let model = model()?;
    let prompts = prompts();
    let plain = tokens(model.generate(&prompts, &settings())?);
    let mut changed = 0;
    for (example, prompt) in prompts.iter().enumerate() {
        for step in 0..7 {
            let position = (prompt.len() - 1 + step) as i64;
            let mut hooks = Hooks::new();
            hooks.edit("model.layers.0", double_at(example, position));
            let edited = tokens(model.generate_with(&prompts, &settings().batch(2), &mut hooks)?);
            for (other, (edited, plain)) in edited.iter().zip(&plain).enumerate() {
                let kept = if other == example { step } else { 8 };
                assert_eq!(edited[..kept], plain[..kept], "example {other} after an edit of example {example} at step {step}");
                changed += usize::from(edited != plain);
            }
        }
    }
    assert!(changed > 5, "only {changed} of 21 edits changed a token");
    Ok(())
}

#[test]
fn an_edit_of_the_output_head_decides_the_token() -> Result<()> {
    let model = model()?;
    let mut hooks = Hooks::new();
    hooks.edit("lm_head", |_, value| {
        let changed = value.zeros_like();
        let _ = changed.select(-1, 17).fill_(1.0);
        Ok(Some(changed))
    });
    assert_eq!(tokens(model.generate_with(&prompts(), &settings(), &mut hooks)?), vec![vec![17; 8]; 3]);
    Ok(())
}

#[test]
fn observing_the_pattern_does_not_change_tokens_and_its_rows_sum_to_one() -> Result<()> {
    let model = model()?;
    let calls = Cell::new(0);
    let mut hooks = Hooks::new();
    hooks.observe("model.layers.*.self_attn.pattern", |point, value| {
        let sums = value.sum_dim_intlist([-1i64].as_slice(), false, None);
        assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5, "{}", point.path);
        calls.set(calls.get() + 1);
        Ok(())
    });
    let observed = tokens(model.generate_with(&prompts(), &settings(), &mut hooks)?);
    drop(hooks);
    assert_eq!(observed, tokens(model.generate(&prompts(), &settings())?));
    // Once for the prompts, then for each new token but the last.
    assert_eq!(calls.get(), 3 * 8);
    Ok(())
}

#[test]
fn nothing_stays_after_an_error_an_early_return_or_a_panic() -> Result<()> {
    let model = model()?;
    let prompts = prompts();
    let before = model.forward(&prompts)?.values;
    let generated = tokens(model.generate(&prompts, &settings())?);
    for at in [0, 1, 5] {
        for outcome in ["error", "panic"] {
            let count = Cell::new(0);
            let mut hooks = Hooks::new();
            hooks.edit("model.layers.*.mlp", |_, value| {
                count.set(count.get() + 1);
                match (count.get() > at, outcome) {
                    (false, _) => Ok(Some(value * 9.0)),
                    (true, "error") => Err(some_error()),
                    (true, _) => panic!("the hook's own panic"),
                }
            });
            let results = [
                model.forward_with(&prompts, &mut hooks).map(|_| ()),
                model.generate_with(&prompts, &settings(), &mut hooks).map(|_| ()),
                model.gradients(&prompts, "model.norm", |_| panic!("the scalar's own panic")).map(|_| ()),
            ];
            // The count goes on over both calls, so the first may end well.
            assert!(results[1].is_err() && results[2].is_err(), "{results:?}");
            drop(hooks);
            assert_eq!(model.forward(&prompts)?.values, before);
            assert_eq!(tokens(model.generate(&prompts, &settings())?), generated);
            let leaf = Tensor::from(1f32).set_requires_grad(true);
            assert!((leaf * 2.0).requires_grad(), "gradients stayed switched off");
        }
    }
    Ok(())
}

#[test]
fn hooks_that_do_nothing_are_errors() -> Result<()> {
    let model = model()?;
    let prompts = prompts();
    let mut never = Hooks::new();
    never.edit("model.layers.1.mlp", |_, _| Ok(None));
    refused(model.forward_with(&prompts, &mut never), &["model.layers.1.mlp", "never replaced", "check its condition"]);
    refused(model.generate_with(&prompts, &settings(), &mut never), &["model.layers.1.mlp", "never replaced"]);
    // One that works does not excuse one that does not, nor does an earlier call.
    let first = Cell::new(true);
    let mut both = Hooks::new();
    both.edit("model.layers.0.mlp", |_, value| Ok(Some(value * 2.0)));
    both.edit("model.layers.2.mlp", |_, value| Ok(first.replace(false).then(|| value * 2.0)));
    model.forward_with(&prompts, &mut both)?;
    refused(model.forward_with(&prompts, &mut both), &["model.layers.2.mlp", "never replaced"]);
    for (pattern, words) in [
        ("model.layers.9.mlp", "selects none"),
        ("model.layer.*", "selects none"),
        ("model.norm, ,", "empty pattern"),
        ("", "empty pattern"),
    ] {
        let mut hooks = Hooks::new();
        hooks.observe(pattern, |_, _| Ok(()));
        refused(model.forward_with(&prompts, &mut hooks), &[words]);
        refused(model.generate_with(&prompts, &settings(), &mut hooks), &[words]);
    }
    Ok(())
}

#[test]
fn replacements_of_another_shape_or_kind_are_errors() -> Result<()> {
    let model = model()?;
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.0.mlp", |_, value| Ok(Some(value.narrow(1, 0, 1))));
    refused(model.forward_with(&prompts(), &mut hooks), &["model.layers.0.mlp", "[3, 1, 24]", "same shape and kind"]);
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.0.mlp", |_, value| Ok(Some(value.to_kind(Kind::Double))));
    refused(model.forward_with(&prompts(), &mut hooks), &["Double", "same shape and kind"]);
    Ok(())
}

#[test]
fn hooks_see_what_an_adapter_changes() -> Result<()> {
    let model = model()?;
    let adapted = model.with(&Adapter::open(golden_folder(&format!("training/{NAME}/adapter")), &model)?)?;
    let read = |model: &Model| -> Result<Tensor> {
        let mut value = None;
        let mut hooks = Hooks::new();
        hooks.observe("model.layers.2.self_attn", |_, seen| {
            value = Some(seen.copy());
            Ok(())
        });
        model.forward_with(&prompts(), &mut hooks)?;
        drop(hooks);
        Ok(value.unwrap())
    };
    let (base, with) = (read(&model)?, read(&adapted)?);
    assert!(apart(&with, &base) > 1e-3);
    // The adapted model's activation, patched into the base model, gives the adapted model's there: an edit is what it says.
    let patched = Cell::new(false);
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.2.self_attn", |_, _| Ok(Some(with.shallow_clone())));
    hooks.observe("model.layers.2.self_attn", |_, value| {
        patched.set(*value == with);
        Ok(())
    });
    model.forward_with(&prompts(), &mut hooks)?;
    drop(hooks);
    assert!(patched.get(), "an observer after an editor sees the replacement");
    assert_eq!(read(&model)?, base);
    Ok(())
}

fn split() -> Result<Split> {
    let rows = (0..12).map(|row| Example::new(format!("t{} t{} ", row + 10, row + 20), ["t3", "t4"][row % 2])).collect();
    Task::of(Examples::new("words", AnswerForm::labels(["t3", "t4"])?, rows)?, Card::default()).few_shot(4, 0)
}

#[test]
fn hooks_in_training_see_every_forward_and_leave_nothing() -> Result<()> {
    let model = speaking(NAME);
    let split = split()?;
    let training = || Training::new(Lora::rank(2), Sft::gold()).batch(2).epochs(2).check_every(2);
    let losses =
        |trained: &Trained| -> Result<Vec<f64>> { Ok(trained.history()?.column("dev_loss")?.f64()?.into_no_null_iter().collect()) };
    let plain = losses(&training().run(&model, &split)?)?;
    let before = model.forward(&prompts())?.values;

    let forwards = Cell::new(0);
    let mut hooks = Hooks::new();
    hooks.observe("model.layers.2.mlp", |point, value| {
        assert_eq!(value.size()[..2], [point.examples.len() as i64, 2]);
        forwards.set(forwards.get() + 1);
        Ok(())
    });
    // With hooks the last layer computes every token, without them the response's alone: the same sums in another order.
    for (watched, alone) in losses(&training().run_with(&model, &split, &mut hooks)?)?.iter().zip(&plain) {
        assert!((watched - alone).abs() < 1e-5 * alone.abs(), "observing changed the training: {watched} and {alone}");
    }
    drop(hooks);
    // Two epochs of two steps, and a dev check every second step.
    assert_eq!(forwards.get(), 4 + 2);

    let steps = Cell::new(0);
    let mut hooks = Hooks::new();
    hooks.edit("model.layers.0.mlp", |_, value| {
        steps.set(steps.get() + 1);
        if steps.get() == 3 { Err(some_error()) } else { Ok(Some(value * 2.0)) }
    });
    assert!(training().run_with(&model, &split, &mut hooks).is_err());
    drop(hooks);
    assert_eq!(model.forward(&prompts())?.values, before);
    assert_eq!(losses(&training().run(&model, &split)?)?, plain);

    // The output head sees the packed response tokens, [token, vocab].
    let rows = Cell::new(0);
    let mut hooks = Hooks::new();
    hooks.observe("lm_head", |_, value| {
        assert_eq!((value.dim(), value.size()[1]), (2, model.config().vocab_size));
        rows.set(rows.get() + value.size()[0]);
        Ok(())
    });
    training().run_with(&model, &split, &mut hooks)?;
    assert!(rows.get() > 0);
    Ok(())
}

#[test]
fn a_finished_run_with_hooks_can_be_opened_again() -> Result<()> {
    let model = speaking(NAME);
    let split = split()?;
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let mut hooks = Hooks::new();
        hooks.edit("model.layers.0.mlp", |_, value| Ok(Some(value * 2.0)));
        let training = Training::new(Lora::rank(2), Sft::gold()).epochs(1).checkpoint(folder.path().join("run.safetensors"));
        training.run_with(&model, &split, &mut hooks)
    };
    assert_eq!(run()?.dev_loss(), run()?.dev_loss());
    Ok(())
}
