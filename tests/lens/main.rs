//! The room `lens` against the same things worked out by hand, prompt by prompt, with plain hooks and the checkpoint's own weights.

mod ablation;
#[path = "../common/mod.rs"]
mod common;
mod patches;

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

/// More than one batch of ragged prompts, with labels that share a prefix or not.
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

/// Activations of prompts with demonstrations, at all positions of the prompts.
fn donors(model: &Model, prompts: &Prompts, pattern: &str, positions: Positions) -> Result<Activations> {
    Capture::at(pattern).positions(positions).of(model, &model.respond(prompts)?)
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

/// The real model of 30 layers, on text of several scripts: every figure of tokens is drawn. Pictures and pages go to `target/tmp/inside`, to be looked at.
#[test]
fn figures_of_thirty_layers_and_of_every_script() -> Result<()> {
    use ia2::figure::{attention_head, attention_heads, patching, token_text};
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".ia2/models/smollm2");
    if !folder.is_dir() {
        common::skipped(&format!("{} is absent: `cargo xtask model smollm2` fetches it", folder.display()));
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
