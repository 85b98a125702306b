//! Patches: activations of one prompt in the forward of another.

use super::*;

#[test]
fn a_patch_is_the_patch_by_hand() -> Result<()> {
    for name in NAMES {
        for (place, model) in models(name)?.iter().enumerate() {
            for (labels, prefix, ids) in [(PLAIN, vec![], [3, 4, 5]), (ALIKE, vec![9u32], [3, 4, 40])] {
                let prompts = prompts(labels)?;
                for pattern in ["model.layers.*", "model.layers.*.mlp"] {
                    let source = donors(model, &prompts, pattern, Positions::Prompt)?.roll(1)?;
                    let frame = patch(model, &prompts, &source, 2)?;
                    assert_eq!(frame.height(), 2 * LAYERS * prompts.len());
                    let rows = model.encode(&prompts)?;
                    for from_end in 0..2usize {
                        for own in 0..LAYERS {
                            let part = only(&frame, &[("from_end", from_end as u32), ("layer", own as u32)]);
                            let path = pattern.replace('*', &own.to_string());
                            let (ours, donor) = (labels.map(|label| f64s(&part, &format!("p_{label}"))), u32s(&part, "donor"));
                            assert!(texts(&part, "hook_point").iter().all(|own| own.as_deref() == Some(&path)));
                            for row in 0..rows.len() {
                                let other = (row + rows.len() - 1) % rows.len();
                                assert_eq!(donor[row] as usize, other);
                                let given = seen(model, &rows[other], &path)?;
                                let given = given.get((rows[other].len() - 1 - from_end) as i64);
                                let read = [rows[row].clone(), prefix.clone()].concat();
                                let logits = changed(model, &read, &path, |value| {
                                    let value = value.copy();
                                    value.get(0).get((rows[row].len() - 1 - from_end) as i64).copy_(&given);
                                    value
                                })?;
                                let chances = softmax(&ids.map(|id| logits[id]));
                                for (column, chance) in ours.iter().zip(chances) {
                                    close(column[row], chance, &format!("{name} {place} {path} {from_end} of prompt {row}"));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn shared_demonstrations_do_not_hide_a_patch() -> Result<()> {
    let model = speaking(NAMES[1]);
    let rows: Vec<Example> = prompts(PLAIN)?.iter().map(|prompt| prompt.example.clone()).collect();
    let examples = |rows: &[Example]| Examples::new("words", AnswerForm::labels(PLAIN)?, rows.to_vec());
    let shown = examples(&rows[5..])?.with_demonstrations(&examples(&rows[..5])?, 0)?;
    let rows = model.encode(&shown)?;
    assert!(rows.iter().all(|row| row[..16] == rows[0][..16]), "too short for the library to share it");
    let shortest = rows.iter().map(Vec::len).min().unwrap();
    let source = donors(&model, &shown, "model.layers.1", Positions::Prompt)?.roll(1)?;
    // Down to tokens that lie before where the queries begin.
    let frame = patch(&model, &shown, &source, shortest)?;
    for from_end in [0, 1, 4, shortest / 2, shortest - 1] {
        let part = only(&frame, &[("from_end", from_end as u32)]);
        let ours = f64s(&part, "p_t4");
        for (row, tokens) in rows.iter().enumerate() {
            let other = &rows[(row + rows.len() - 1) % rows.len()];
            let given = seen(&model, other, "model.layers.1")?.get((other.len() - 1 - from_end) as i64);
            let logits = changed(&model, tokens, "model.layers.1", |value| {
                let value = value.copy();
                value.get(0).get((tokens.len() - 1 - from_end) as i64).copy_(&given);
                value
            })?;
            close(ours[row], softmax(&[logits[3], logits[4], logits[5]])[1], &format!("{from_end} of prompt {row}"));
        }
    }
    Ok(())
}

#[test]
fn what_a_patch_hands_over() -> Result<()> {
    let model = speaking(NAMES[1]);
    let prompts = prompts(PLAIN)?;
    let plain = evaluate(&model, &prompts)?;
    let last = donors(&model, &prompts, "model.layers.*", Positions::Last)?;
    // A prompt's own activations change nothing.
    let own = patch(&model, &prompts, &last, 1)?;
    for layer in 0..LAYERS as u32 {
        for column in ["p_t3", "p_t4", "nll", "label_mass"] {
            f64s(&only(&own, &[("layer", layer)]), column).iter().zip(f64s(&plain, column)).for_each(|(a, b)| close(*a, b, column));
        }
    }
    // All that the last layer says is handed over.
    let rolled = patch(&model, &prompts, &last.roll(-2)?, 1)?;
    let top = only(&rolled, &[("layer", 2)]);
    let (ours, theirs) = (f64s(&top, "p_t4"), f64s(&plain, "p_t4"));
    let others: Vec<usize> = (0..prompts.len()).map(|row| (row + 2) % prompts.len()).collect();
    others.iter().enumerate().for_each(|(row, &other)| close(ours[row], theirs[other], "the donor's"));
    let picked = patch(&model, &prompts, &last.select(&others)?, 1)?;
    assert!(picked.equals_missing(&rolled), "a roll is a selection");

    // The other columns: the donor's gold, whether it is followed, and by how much the prompt's own has the higher logit.
    let (answers, golds) = (texts(&rolled, "answer"), texts(&rolled, "gold"));
    let (theirs, follows) = (texts(&rolled, "donor_gold"), rolled.column("follows_donor")?.bool()?);
    let differences: Vec<Option<f64>> = rolled.column("logit_difference")?.f64()?.iter().collect();
    for row in 0..rolled.height() {
        let expected = prompts.get(others[row % prompts.len()]).map(|prompt| prompt.example.gold.clone());
        assert_eq!(theirs[row], expected);
        assert_eq!(follows.get(row), Some(expected == answers[row]));
        let chance = |label: &Option<String>| f64s(&rolled, &format!("p_{}", label.as_ref().unwrap()))[row].ln();
        match differences[row] {
            Some(difference) => close(difference, chance(&golds[row]) - chance(&expected), "logit difference"),
            None => assert_eq!(golds[row], expected),
        }
    }
    let undefined = differences.iter().filter(|difference| difference.is_none()).count();
    assert!(undefined < differences.len() && follows.sum() > Some(0), "the test wants golds that differ, and donors that are followed");
    Ok(())
}

#[test]
fn a_patching_map_is_the_patches_between_what_both_prompts_say() -> Result<()> {
    for (name, labels) in [(NAMES[0], PLAIN), (NAMES[1], ALIKE)] {
        let model = speaking(name);
        let prompts = prompts(labels)?;
        let source = donors(&model, &prompts, "model.layers.*, model.layers.*.mlp", Positions::Prompt)?.roll(1)?;
        let (map, patched) = (patch_map(&model, &prompts, &source, 2)?, patch(&model, &prompts, &source, 2)?);
        let said = evaluate(&model, &prompts)?;
        let (golds, rows) = (texts(&said, "gold"), model.encode(&prompts)?);
        let chance =
            |frame: &DataFrame, row: usize, label: &Option<String>| f64s(frame, &format!("p_{}", label.as_ref().unwrap()))[row].ln();
        let count = prompts.len();
        assert_eq!(map.height(), 2 * 2 * LAYERS * count);
        let numbers = |column: &str| map.column(column).unwrap().f64().unwrap().iter().collect::<Vec<_>>();
        let [share, clean, corrupted, found] = ["normalised_logit_difference", "clean", "corrupted", "patched"].map(numbers);
        let (tokens, theirs, sites) = (texts(&map, "token"), texts(&map, "donor_token"), texts(&map, "site"));
        let (layer, from_end, position) = (u32s(&map, "layer"), u32s(&map, "from_end"), u32s(&map, "position"));
        let mut whole = 0;
        for row in 0..map.height() {
            let own = row % count;
            let other = (own + count - 1) % count;
            let place = rows[own].len() - 1 - from_end[row] as usize;
            assert_eq!((position[row] as usize, &tokens[row]), (place, &Some(format!("t{}", rows[own][place]))));
            assert_eq!(theirs[row], Some(format!("t{}", rows[other][rows[other].len() - 1 - from_end[row] as usize])));
            assert!(["model.layers.*", "model.layers.*.mlp"].contains(&sites[row].as_deref().unwrap()));
            if golds[own] == golds[other] {
                assert_eq!((share[row], clean[row]), (None, None));
                continue;
            }
            let difference = |frame: &DataFrame, row: usize| chance(frame, row, &golds[other]) - chance(frame, row, &golds[own]);
            let (up, down, here) = (difference(&said, other), difference(&said, own), difference(&patched, row));
            close(clean[row].unwrap(), up, "clean");
            close(corrupted[row].unwrap(), down, "corrupted");
            close(found[row].unwrap(), here, "patched");
            let (ours, expected) = (share[row].unwrap(), (here - down) / (up - down));
            assert!((ours - expected).abs() < 1e-3 * expected.abs().max(1.0), "{ours} and {expected}");
            // All that the last layer says of the last token is handed over, where that is the token the labels follow.
            if labels == PLAIN
                && layer[row] as usize == LAYERS - 1
                && from_end[row] == 0
                && sites[row].as_deref() == Some("model.layers.*")
                && (up - down).abs() > 0.1
            {
                assert!((ours - 1.0).abs() < 1e-2, "{ours}");
                whole += 1;
            }
        }
        assert!(whole > 0 || labels == ALIKE, "the test wants prompts that differ");
        ia2::figure::patching().only("index", 0).draw(&map)?;
    }
    let model = speaking(NAMES[0]);
    let prompts = prompts(PLAIN)?;
    let last = donors(&model, &prompts, "model.layers.2", Positions::Last)?;
    refused(patch_map(&model, &prompts, &last, 1), &["no prompt has another gold than its donor"]);
    refused(patch_map(&model, &prompts.clone().with_form(AnswerForm::free()), &last, 1), &["free answers", "`patch`"]);
    Ok(())
}

#[test]
fn a_patch_can_steer_free_answers() -> Result<()> {
    let model = speaking(NAMES[0]);
    let prompts = prompts(PLAIN)?.with_form(AnswerForm::free().at_most(3)?);
    let last = donors(&model, &prompts, "model.layers.2", Positions::Last)?;
    let frame = patch(&model, &prompts, &last.roll(1)?, 1)?;
    assert!(frame.column("logit_difference").is_err() && frame.column("follows_donor").is_ok());
    // The first token is the donor's; what follows is read after the prompt's own.
    let (ours, theirs) = (texts(&frame, "response"), texts(&evaluate(&model, &prompts)?, "response"));
    let first = |text: &Option<String>| text.as_ref().unwrap().split_whitespace().next().map(str::to_owned);
    for row in 0..prompts.len() {
        assert_eq!(first(&ours[row]), first(&theirs[(row + prompts.len() - 1) % prompts.len()]));
    }
    Ok(())
}

#[test]
fn patches_that_cannot_be_are_refused() -> Result<()> {
    let model = speaking(NAMES[0]);
    let prompts = prompts(PLAIN)?;
    let last = donors(&model, &prompts, "model.layers.*", Positions::Last)?;
    refused(patch(&model, &prompts.take(3), &last, 1), &["21 donors", "3 prompts"]);
    refused(patch(&model, &prompts, &last, 2), &["Positions::Prompt"]);
    refused(patch(&model, &prompts, &last, 100), &["the last 100", "fewer"]);
    refused(patch(&model, &prompts, &last, 0), &["0 tokens"]);
    refused(patch(&speaking("llama_full"), &prompts, &last, 1), &["24", "wide"]);
    refused(patch(&speaking("qwen2_grouped"), &prompts, &last, 1), &["model.layers.2", "selects none"]);
    refused(last.select(&[21]), &["example 21"]);
    refused(last.select(&[]), &["no examples"]);
    Ok(())
}
