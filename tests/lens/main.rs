//! The room `lens` against the same things worked out by hand, prompt by prompt, with plain hooks and the checkpoint's own weights.

#[path = "../common/mod.rs"]
mod common;

use common::{disturbed, golden, refused, speaking};
use ia2::Result;
use ia2::activations::Activations;
use ia2::evaluate::evaluate_with;
use ia2::lens::{Ablation, ablate, attention_patterns, logit_lens, patch, patch_map};
use ia2::prelude::*;
use ia2::prompt::{AnswerForm, Example, Examples, Prompts};

const NAMES: [&str; 2] = ["llama_grouped_tied", "qwen3_grouped_tied"];
const LAYERS: usize = 3;
const ALL: usize = usize::MAX;

/// More than one batch of ragged prompts, with labels that begin alike or not.
fn prompts(labels: [&str; 3]) -> Result<Prompts> {
    let query = |row: usize| (0..=row % 5).map(|word| format!("t{} ", 5 + (row * 11 + word * 17) % 58)).collect::<String>();
    let rows = (0..21).map(|row| Example::new(format!("t{} {}", row + 10, query(row)), labels[row * 7 % 3])).collect();
    Examples::new("words", AnswerForm::labels(labels)?, rows)?.zero_shot()
}

const PLAIN: [&str; 3] = ["t3", "t4", "t5"];
const ALIKE: [&str; 3] = ["t9 t3", "t9 t4", "t9 t40"];

fn f64s(frame: &DataFrame, column: &str) -> Vec<f64> {
    frame.column(column).unwrap().f64().unwrap().into_no_null_iter().collect()
}

fn u32s(frame: &DataFrame, column: &str) -> Vec<u32> {
    frame.column(column).unwrap().u32().unwrap().into_no_null_iter().collect()
}

fn texts(frame: &DataFrame, column: &str) -> Vec<Option<String>> {
    frame.column(column).unwrap().str().unwrap().iter().map(|text| text.map(str::to_owned)).collect()
}

/// The rows of a frame in which each of these columns of u32 has this value.
fn only(frame: &DataFrame, wanted: &[(&str, u32)]) -> DataFrame {
    wanted.iter().fold(frame.clone(), |frame, (column, value)| {
        let mask = frame.column(column).unwrap().u32().unwrap().equal(*value);
        frame.filter(&mask).unwrap()
    })
}

/// The model, the model with a LoRA adapter that does something, and with prefix tuning, whose virtual tokens stand before the prompt.
fn models(name: &str) -> Result<Vec<Model>> {
    let model = speaking(name);
    let lora = Adapter::new(&model, Lora::rank(2).sites("q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"), 0)?;
    let prefix = Adapter::new(&model, PrefixTuning::tokens(4), 0)?;
    let adapted = [lora, prefix].iter().map(|adapter| model.with(&disturbed(adapter, &model, 0.3)?)).collect::<Result<Vec<_>>>()?;
    Ok([vec![model], adapted].concat())
}

/// The value at a hook point in a forward over one prompt alone, `[token, ..]` (a pattern: `[head, query, key]`).
fn seen(model: &Model, row: &[u32], path: &str) -> Result<Tensor> {
    let mut value = None;
    let mut hooks = Hooks::new();
    hooks.observe(path, |_, seen| {
        value = Some(seen.get(0).copy());
        Ok(())
    });
    model.forward_with(&[row.to_vec()], &mut hooks)?;
    drop(hooks);
    Ok(value.unwrap())
}

/// Logits of the last token, in f64, of a forward over one prompt alone in which `replace` makes the value at `path`.
fn changed(model: &Model, row: &[u32], path: &str, replace: impl Fn(&Tensor) -> Tensor) -> Result<Vec<f64>> {
    let mut hooks = Hooks::new();
    hooks.edit(path, |_, value| Ok(Some(replace(value))));
    let logits = model.forward_with(&[row.to_vec()], &mut hooks)?.values;
    Ok(Vec::try_from(logits.get(0).get(-1).to_kind(Kind::Double)).unwrap())
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let whole: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / whole).collect()
}

/// Batches of another make-up round otherwise: donors' forwards are as long as their prompts with the responses.
fn close(ours: f64, expected: f64, what: &str) {
    assert!((ours - expected).abs() < 5e-5, "{what}: {ours} and {expected}");
}

#[test]
fn the_lens_is_the_last_layer_given_an_earlier_ones_output() -> Result<()> {
    for name in NAMES {
        for (place, model) in models(name)?.iter().enumerate() {
            for (labels, prefix, ids) in [(PLAIN, vec![], [3, 4, 5]), (ALIKE, vec![9u32], [3, 4, 40])] {
                let prompts = prompts(labels)?;
                let frame = logit_lens(model, &prompts, ALL)?;
                let mut at = 0;
                let columns = ["label_mass", "probability"].map(|column| f64s(&frame, column));
                let among = labels.map(|label| f64s(&frame, &format!("p_{label}")));
                let (index, layer, position) = (u32s(&frame, "index"), u32s(&frame, "layer"), u32s(&frame, "position"));
                let likeliest: Vec<_> =
                    (2..=5).map(|place| (texts(&frame, &format!("top_{place}")), f64s(&frame, &format!("probability_{place}")))).collect();
                let (token, top, gold) = (texts(&frame, "token"), texts(&frame, "top"), texts(&frame, "gold"));
                for prompt in &prompts {
                    let row = [model.tokenizer()?.encode(&prompt.text())?, prefix.clone()].concat();
                    for own in 0..LAYERS {
                        let stream = seen(model, &row, &format!("model.layers.{own}"))?.unsqueeze(0);
                        let mut hooks = Hooks::new();
                        hooks.edit(&format!("model.layers.{}", LAYERS - 1), |_, _| Ok(Some(stream.shallow_clone())));
                        let logits = model.forward_with(std::slice::from_ref(&row), &mut hooks)?.values.get(0).to_kind(Kind::Double);
                        for (spot, id) in row.iter().enumerate() {
                            let what = format!("{name} {place}, prompt {}, layer {own}, token {spot}", prompt.index);
                            let chances = softmax(&Vec::<f64>::try_from(logits.get(spot as i64)).unwrap());
                            let best = (0..chances.len()).max_by(|&a, &b| chances[a].total_cmp(&chances[b])).unwrap();
                            assert_eq!((index[at], layer[at], position[at]), (prompt.index as u32, own as u32, spot as u32), "{what}");
                            assert_eq!((token[at].clone(), gold[at].clone()), (Some(format!("t{id}")), Some(prompt.example.gold.clone())));
                            assert_eq!(top[at], Some(format!("t{best}")), "{what}");
                            close(columns[1][at], chances[best], &what);
                            let mut sorted = chances.clone();
                            sorted.sort_by(|a, b| b.total_cmp(a));
                            for (tokens, values) in &likeliest {
                                let id: usize = tokens[at].as_ref().unwrap()[1..].parse().unwrap();
                                close(values[at], chances[id], &what);
                            }
                            let told: Vec<f64> = likeliest.iter().map(|(_, values)| values[at]).collect();
                            told.iter().zip(&sorted[1..]).for_each(|(ours, theirs)| close(*ours, *theirs, &what));
                            let mass: f64 = ids.iter().map(|&id| chances[id]).sum();
                            close(columns[0][at], mass, &what);
                            for (column, id) in among.iter().zip(ids) {
                                close(column[at], chances[id] / mass, &what);
                            }
                            at += 1;
                        }
                    }
                }
                assert_eq!(at, frame.height());

                // Fewer positions are the same rows without the others.
                let ends = logit_lens(model, &prompts, 2)?;
                let longest: Vec<u32> =
                    prompts.iter().map(|prompt| model.tokenizer().unwrap().encode(&prompt.text()).unwrap().len() as u32).collect();
                let kept = index.iter().zip(&position).map(|(index, place)| *place + 2 >= longest[*index as usize] + prefix.len() as u32);
                let kept = frame.filter(&kept.collect())?;
                assert_eq!(ends.select(["index", "layer", "position", "top"])?, kept.select(["index", "layer", "position", "top"])?);
                f64s(&ends, "probability").iter().zip(f64s(&kept, "probability")).for_each(|(a, b)| close(*a, b, "of two tokens"));

                // At the last layer and token it is what the model says.
                let said = evaluate(model, &prompts)?;
                let last = only(&logit_lens(model, &prompts, 1)?, &[("layer", LAYERS as u32 - 1)]);
                let label = format!("p_{}", labels[1]);
                for (ours, theirs) in [("probability", "top_1_confidence"), ("label_mass", "label_mass"), (&label, &label)] {
                    f64s(&last, ours).iter().zip(f64s(&said, theirs)).for_each(|(a, b)| close(*a, b, ours));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn half_precision_and_free_answers_have_a_lens_too() -> Result<()> {
    let folder = common::with_words("llama_bf16");
    let model = Model::open(folder.path())?;
    assert_eq!(model.kind(), Kind::BFloat16);
    let prompts = prompts(PLAIN)?;
    let last = only(&logit_lens(&model, &prompts, 1)?, &[("layer", model.config().layers as u32 - 1)]);
    for (ours, theirs) in f64s(&last, "probability").iter().zip(f64s(&evaluate(&model, &prompts)?, "top_1_confidence")) {
        // bf16 has 8 bits, and batches of other widths sum in another order.
        assert!((ours - theirs).abs() < 0.02 * theirs, "{ours} and {theirs}");
    }
    let free = logit_lens(&model, &prompts.clone().with_form(AnswerForm::free()), 1)?;
    let names: Vec<String> = free.get_column_names().iter().map(|name| name.to_string()).collect();
    assert_eq!(names[..7], ["index", "gold", "layer", "position", "token", "top", "probability"]);
    assert_eq!((names[7].as_str(), names[14].as_str(), names.len()), ("top_2", "probability_5", 15));
    refused(logit_lens(&model, &prompts, 0), &["0 tokens"]);
    refused(logit_lens(&model, &Prompts::new(vec![]), 1), &["no prompts"]);
    Ok(())
}

/// A head's weights times the values of its group, through the output projection: attention as the paper has it, from the checkpoint's file.
#[test]
fn attention_weights_mix_the_values_into_what_attention_gives() -> Result<()> {
    for name in NAMES {
        let model = speaking(name);
        let weights = golden(&format!("{name}/model.safetensors"))?;
        let (heads, groups, width) = (model.config().heads, model.config().kv_heads, model.config().head_dim);
        let prompts = prompts(PLAIN)?;
        let frame = attention_patterns(&model, &prompts, 0..LAYERS, ALL)?;
        let values: Vec<f32> = frame.column("weight")?.f32()?.into_no_null_iter().collect();
        let keys: Vec<i32> = frame.column("key")?.i32()?.into_no_null_iter().collect();
        let [index, layer, head, query] = ["index", "layer", "head", "query"].map(|column| u32s(&frame, column));
        let (asking, seen_token) = (texts(&frame, "query_token"), texts(&frame, "key_token"));
        let mut at = 0;
        for (place, row) in model.encode(&prompts)?.iter().enumerate() {
            for own in 0..LAYERS {
                let path = format!("model.layers.{own}.self_attn");
                let carried = seen(&model, row, &format!("{path}.v_proj"))?.to_kind(Kind::Double).view([row.len() as i64, groups, width]);
                let output = weights[&format!("{path}.o_proj.weight")].to_kind(Kind::Double);
                let mixed = Tensor::zeros([row.len() as i64, heads, width], (Kind::Double, Device::Cpu));
                for own_head in 0..heads {
                    for spot in 0..row.len() {
                        let mut sum = 0.0;
                        for key in 0..=spot {
                            assert_eq!((index[at], layer[at], head[at]), (place as u32, own as u32, own_head as u32));
                            assert_eq!((query[at], keys[at]), (spot as u32, key as i32));
                            assert_eq!(asking[at], Some(format!("t{}", row[spot])));
                            assert_eq!(seen_token[at], Some(format!("t{}", row[key])));
                            let weight = f64::from(values[at]);
                            sum += weight;
                            let mut here = mixed.get(spot as i64).get(own_head);
                            let _ = here.g_add_(&(carried.get(key as i64).get(own_head / (heads / groups)) * weight));
                            at += 1;
                        }
                        close(sum, 1.0, "the weights of a query");
                    }
                }
                let by_hand = mixed.view([row.len() as i64, heads * width]).matmul(&output.tr());
                let theirs = seen(&model, row, &path)?.to_kind(Kind::Double);
                let apart = (by_hand - &theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[]);
                assert!(apart < 1e-5, "{name} prompt {place} layer {own}: {apart:.1e}");
            }
        }
        assert_eq!(at, frame.height());

        let ends = attention_patterns(&model, &prompts, [2], 1)?;
        let lengths: Vec<usize> = model.encode(&prompts)?.iter().map(Vec::len).collect();
        assert_eq!(ends.height(), lengths.iter().sum::<usize>() * heads as usize);
        let mine = only(&ends, &[("index", 7), ("head", 1)]);
        let same = only(&frame, &[("index", 7), ("head", 1), ("layer", 2), ("query", lengths[7] as u32 - 1)]);
        assert_eq!(mine.drop("weight")?, same.drop("weight")?);
        let weight = |frame: &DataFrame| frame.column("weight").unwrap().f32().unwrap().into_no_null_iter().collect::<Vec<_>>();
        weight(&mine).into_iter().zip(weight(&same)).for_each(|(a, b)| close(a.into(), b.into(), "weight"));
    }
    Ok(())
}

#[test]
fn virtual_tokens_are_keys_before_the_first() -> Result<()> {
    let model = &models(NAMES[0])?[2];
    let frame = attention_patterns(model, &prompts(PLAIN)?.take(2), [1], 1)?;
    let keys: Vec<i32> = only(&frame, &[("index", 0), ("head", 0)]).column("key")?.i32()?.into_no_null_iter().collect();
    let length = model.encode(&prompts(PLAIN)?.take(1))?[0].len() as i32;
    assert_eq!(keys, (-4..length).collect::<Vec<_>>());
    let sum = only(&frame, &[("index", 0), ("head", 0)]).column("weight")?.f32()?.sum().unwrap();
    close(sum.into(), 1.0, "with the virtual tokens");
    assert_eq!(frame.column("key_token")?.null_count(), 2 * 4 * model.config().heads as usize);
    let model = speaking(NAMES[0]);
    refused(attention_patterns(&model, &prompts(PLAIN)?, [3], 1), &["layer 3", "0 to 2"]);
    refused(attention_patterns(&model, &prompts(PLAIN)?, [], 1), &["no layers"]);
    Ok(())
}

/// Activations of prompts with demonstrations, at all positions of the prompts.
fn donors(model: &Model, prompts: &Prompts, pattern: &str, positions: Positions) -> Result<Activations> {
    Capture::at(pattern).positions(positions).of(model, &model.respond(prompts)?)
}

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

    // The columns beside: the donor's gold, whether it is followed, and by how much the prompt's own has the higher logit.
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

/// The real model of 30 layers, on text of several scripts: every figure of tokens is drawn. Pictures and pages go to `target/tmp/inside`, to be looked at.
#[test]
fn figures_of_thirty_layers_and_of_every_script() -> Result<()> {
    use ia2::figure::{attention_head, attention_heads, patching, token_text};
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".ia2/models/smollm2");
    if !folder.is_dir() {
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), "\nSKIPPED: {} is absent: `cargo xtask model smollm2` fetches it", folder.display());
        return Ok(());
    }
    let model = OpenOptions::new().kind(Kind::Float).open("smollm2")?;
    let query = |word: &str| format!("Review: a {word} film, 今天 مرحبا \u{1f600}\nSentiment:");
    let examples = |words: [(&str, &str); 2]| {
        let rows = words.map(|(word, gold)| Example::new(query(word), gold)).to_vec();
        Examples::new("reviews", AnswerForm::labels(["positive", "negative"])?, rows)?.zero_shot()
    };
    let prompts = examples([("bad", "negative"), ("good", "positive")])?;
    let (_, clean) = Capture::at("model.layers.*").positions(Positions::Prompt).while_responding(&model, &prompts)?;
    let lens = logit_lens(&model, &prompts.take(1), ALL)?;
    let patterns = attention_patterns(&model, &prompts.take(1), 0..30, ALL)?;
    let text =
        "A film of 30 minutes: 今天天气很好。 مرحبا بالعالم \u{1f600}\nThe capital of France is Paris, and the capital of Japan is Tokyo.";
    let scores = model.score(&prompts.take(1), &[text])?.tokens()?;
    let last = patterns.column("query")?.u32()?.max().unwrap();
    let map = patch_map(&model, &prompts.take(1), &clean.select(&[1])?, 4)?;
    let figures = [
        ("loss", token_text("token", "log_likelihood").title("What the model expected").draw(&scores)?),
        ("label", token_text("token", "p_positive").only("layer", 29).draw(&lens)?),
        ("head_text", token_text("key_token", "weight").only("layer", 4).only("head", 2).only("query", last).draw(&patterns)?),
        ("lens", token_table().title("What each layer would say").draw(&lens)?),
        ("heads", attention_heads().draw(&patterns)?),
        ("head", attention_head(4, 2).draw(&patterns)?),
        ("patching", patching().draw(&map)?),
    ];
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("inside");
    std::fs::create_dir_all(&out).unwrap();
    for (name, figure) in &figures {
        figure.save(out.join(format!("{name}.png")))?;
        let html = figure.bundle().html.unwrap();
        std::fs::write(out.join(format!("{name}.html")), format!("<!doctype html><meta charset=\"utf-8\">{html}")).unwrap();
        assert!(figure.alt().len() > 60 && !figure.alt().contains("NaN"), "{name}: {}", figure.alt());
    }
    let alt = |name: &str| figures.iter().find(|(own, _)| *own == name).unwrap().1.alt();
    assert!(alt("heads").contains("Attention of 30 layers of 9 heads"), "{}", alt("heads"));
    assert!(alt("loss").contains("今") && alt("patching").contains("layer (0 to 29)"), "{} {}", alt("loss"), alt("patching"));
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

#[test]
fn neighbours_and_components_of_activations() -> Result<()> {
    let model = speaking(NAMES[0]);
    let prompts = prompts(PLAIN)?;
    let all = donors(&model, &prompts, "model.layers.*", Positions::Prompt)?;
    let frame = all.neighbours(1, Tokens::Last, 4)?;
    let vectors: Vec<Tensor> = model
        .encode(&prompts)?
        .iter()
        .map(|row| Ok(seen(&model, row, "model.layers.1")?.get(-1).to_kind(Kind::Double)))
        .collect::<Result<_>>()?;
    let cosine = |a: &Tensor, b: &Tensor| (a.dot(b) / (a.norm() * b.norm())).double_value(&[]);
    let (index, ours) = (u32s(&frame, "index"), f64s(&frame, "cosine"));
    assert_eq!((index[0], index.len()), (4, 21));
    assert!(ours.windows(2).all(|pair| pair[0] >= pair[1]));
    index.iter().zip(&ours).for_each(|(&other, ours)| close(*ours, cosine(&vectors[4], &vectors[other as usize]), "cosine"));
    refused(all.neighbours(1, Tokens::Each, 0), &["one vector"]);
    refused(all.neighbours(1, Tokens::Last, 21), &["example 21"]);
    refused(all.neighbours(3, Tokens::Last, 0), &["layer 3"]);

    // All components together keep every distance; shares are those of the variance.
    let plane = all.principal_components(Tokens::Last, 20)?;
    assert_eq!(plane.height(), LAYERS * 21);
    let part = only(&plane, &[("layer", 1)]);
    let shares: Vec<f64> = (1..=20).map(|at| f64s(&part, &format!("pc{at}_share"))[0]).collect();
    close(shares.iter().sum(), 1.0, "all shares");
    assert!(shares.windows(2).all(|pair| pair[0] >= pair[1]));
    let scores: Vec<Vec<f64>> = (1..=20).map(|at| f64s(&part, &format!("pc{at}"))).collect();
    for (a, b) in [(0, 1), (3, 17), (20, 8)] {
        let ours = scores.iter().map(|own| (own[a] - own[b]).powi(2)).sum::<f64>().sqrt();
        let theirs = (&vectors[a] - &vectors[b]).norm().double_value(&[]);
        assert!((ours - theirs).abs() < 1e-5 * theirs, "{ours} and {theirs}");
    }
    assert_eq!(texts(&part, "label"), prompts.iter().map(|prompt| Some(prompt.example.gold.clone())).collect::<Vec<_>>());
    let each = all.principal_components(Tokens::Each, 2)?;
    assert_eq!(each.height(), LAYERS * all.lengths().iter().sum::<usize>());
    refused(all.principal_components(Tokens::Last, 21), &["model.layers.0", "1 to 20"]);
    Ok(())
}
