//! Heads and modules without what they write, and hooks in an evaluation.

use super::*;

#[test]
fn a_head_without_weights_writes_nothing() -> Result<()> {
    for name in NAMES {
        let model = speaking(name);
        let weights = golden(&format!("{name}/model.safetensors"))?;
        let (heads, groups, width) = (model.config().heads, model.config().kv_heads, model.config().head_dim);
        let prompts = prompts(PLAIN)?;
        let frame = ablate(&model, &prompts, "model.layers.*.self_attn.pattern", Ablation::Zero)?;
        assert_eq!(frame.height(), LAYERS * heads as usize * prompts.len());
        for own in 0..LAYERS {
            let path = format!("model.layers.{own}.self_attn");
            let output = weights[&format!("{path}.o_proj.weight")].shallow_clone();
            for head in 0..heads {
                let part = only(&frame, &[("layer", own as u32), ("head", head as u32)]);
                let ours = PLAIN.map(|label| f64s(&part, &format!("p_{label}")));
                for (place, row) in model.encode(&prompts)?.iter().enumerate() {
                    // What the head writes, taken away from what attention gives.
                    let pattern = seen(&model, row, &format!("{path}.pattern"))?.get(head);
                    let carried = seen(&model, row, &format!("{path}.v_proj"))?.view([row.len() as i64, groups, width]);
                    let written =
                        pattern.matmul(&carried.select(1, head / (heads / groups))).matmul(&output.narrow(1, head * width, width).tr());
                    let logits = changed(&model, row, &path, |value| value - written.unsqueeze(0))?;
                    for (column, chance) in ours.iter().zip(softmax(&[logits[3], logits[4], logits[5]])) {
                        close(column[place], chance, &format!("{path} head {head}"));
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn modules_become_zero_or_their_mean() -> Result<()> {
    for name in NAMES {
        for model in models(name)? {
            let prompts = prompts(PLAIN)?;
            let rows = model.encode(&prompts)?;
            for ablation in [Ablation::Zero, Ablation::Mean] {
                let frame = ablate(&model, &prompts, "model.layers.*.mlp, model.layers.1.self_attn", ablation)?;
                assert_eq!(frame.height(), (LAYERS + 1) * prompts.len());
                assert_eq!(frame.column("head")?.null_count(), frame.height());
                let points = texts(&frame, "hook_point");
                for path in ["model.layers.0.mlp", "model.layers.1.self_attn", "model.layers.2.mlp"] {
                    let tokens = rows.iter().map(|row| seen(&model, row, path)).collect::<Result<Vec<_>>>()?;
                    let mean = Tensor::cat(&tokens, 0).mean_dim([0i64].as_slice(), false, None);
                    let part = frame.filter(&points.iter().map(|own| own.as_deref() == Some(path)).collect())?;
                    let ours = f64s(&part, "p_t4");
                    for (place, row) in rows.iter().enumerate() {
                        let logits = changed(&model, row, path, |value| match ablation {
                            Ablation::Zero => value * 0.0,
                            Ablation::Mean => value * 0.0 + &mean,
                        })?;
                        close(ours[place], softmax(&[logits[3], logits[4], logits[5]])[1], path);
                    }
                }
            }
        }
    }
    let model = speaking(NAMES[0]);
    refused(ablate(&model, &prompts(PLAIN)?, "model.layers.*.self_attn.pattern", Ablation::Mean), &["Ablation::Zero"]);
    refused(ablate(&model, &prompts(PLAIN)?, "model.layers.*.attention", Ablation::Zero), &["selects none"]);
    refused(ablate(&model, &prompts(PLAIN)?, "lm_head", Ablation::Mean), &["lm_head"]);
    Ok(())
}

#[test]
fn hooks_go_along_with_an_evaluation() -> Result<()> {
    let model = speaking(NAMES[1]);
    let split = prompts(PLAIN)?;
    for prompts in [split.clone(), split.clone().with_form(AnswerForm::free().at_most(4)?)] {
        let plain = evaluate(&model, &prompts)?;
        let mut seen = vec![0i64; prompts.len()];
        let mut hooks = Hooks::new();
        hooks.observe("model.layers.1.mlp", |point, value| {
            point.examples.iter().for_each(|&example| seen[example] += value.size()[1]);
            Ok(())
        });
        let watched = evaluate_with(&model, &prompts, &mut hooks)?;
        drop(hooks);
        assert_eq!(watched.get_column_names(), plain.get_column_names());
        for column in ["answer", "response", "prompt_digest"] {
            assert!(watched.column(column)?.equals_missing(plain.column(column)?), "{column}");
        }
        for column in watched.columns().iter().filter(|column| column.dtype().is_float()) {
            f64s(&watched, column.name()).iter().zip(f64s(&plain, column.name())).for_each(|(a, b)| close(*a, b, column.name()));
        }
        let lengths: Vec<i64> = model.encode(&prompts)?.iter().map(|row| row.len() as i64).collect();
        assert!(seen.iter().zip(lengths).all(|(seen, length)| *seen >= length), "every token of every prompt is seen: {seen:?}");
        refused(evaluate_with(&model, &prompts, Hooks::new().edit("model.layers.0", |_, _| Ok(None))), &["never replaced"]);
        refused(evaluate_with(&model, &prompts, Hooks::new().observe("model.layers.9", |_, _| Ok(()))), &["selects none"]);
    }
    Ok(())
}
