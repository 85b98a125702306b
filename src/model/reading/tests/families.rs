//! The tree where a layer sees a window of a text alone, and where rotations depend on a text's length.

use super::*;
use crate::model::TeacherForcing;
use crate::model::decoder::Depth;

/// Every golden checkpoint of a family, with windows of 8 tokens, soft caps, experts or learned positions.
fn families() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> =
        names.filter(|entry| entry.path().is_dir()).map(|entry| format!("families/{}", entry.file_name().to_str().unwrap())).collect();
    names.sort();
    names
}

/// Those within the context.
fn fitting(model: &Model, rows: &[Vec<u32>], more: usize) -> Vec<Vec<u32>> {
    rows.iter().filter(|row| (row.len() + more) as i64 <= model.config().max_positions).cloned().collect()
}

/// Texts around 16 tokens, where two of the checkpoints change their rotations, with a common prefix, and longer ones that go on from them.
fn mixed() -> Vec<Vec<u32>> {
    let (first, second) = (words(3, 11), words(8, 14));
    let of = |cached_prefix: &[u32], seed: u32, count: u32| [cached_prefix, &words(seed, count)].concat();
    let mut rows: Vec<Vec<u32>> = (0..6).map(|seed| of(&first, 20 + seed, 1 + seed)).collect();
    rows.extend((0..4).map(|seed| of(&second, 40 + seed, 1 + seed)));
    rows.extend([of(&first, 60, 20), of(&second, 61, 9), first, words(70, 1)]);
    rows
}

/// What all reads give, together and alone, must be the same.
fn agrees(name: &str, model: &Model, rows: &[Vec<u32>], most: f64) -> Result<()> {
    let _inference = tch::no_grad_guard();
    let (shown, logits) = plain(model, rows)?;
    for batch in [3, 64] {
        let distance = apart(&model.next_logits(rows, batch, None)?, &logits);
        assert!(distance < most, "{name}: logits in batches of {batch}: {distance:.1e}");
        for (watch, at_end) in [(Watch::Pieces, false), (Watch::End, true)] {
            let counts = |row: usize| if at_end { (1 + row % 3).min(rows[row].len()) } else { rows[row].len() };
            let seen: RefCell<HashMap<(usize, String, i64), Tensor>> = RefCell::default();
            let mut hooks = Hooks::new();
            hooks.observe(POINTS, |point, value| {
                let positions: Vec<Vec<i64>> = Vec::try_from(point.positions)?;
                for (place, &row) in point.examples.iter().enumerate() {
                    for (token, &position) in positions[place.min(positions.len() - 1)].iter().enumerate() {
                        seen.borrow_mut().insert((row, point.path.to_string(), position), value.get(place as i64).get(token as i64));
                    }
                }
                Ok(())
            });
            model.visit(rows, batch, |row| (rows[row].len() - counts(row), counts(row)), watch, &mut hooks)?;
            drop(hooks);
            let seen = seen.into_inner();
            for ((row, path), values) in &shown {
                let (all, count) = (rows[*row].len(), counts(*row));
                let own: Vec<&Tensor> = (all - count..all).map(|position| &seen[&(*row, path.clone(), position as i64)]).collect();
                let distance = apart(&Tensor::stack(&own, 0), &values.narrow(0, (all - count) as i64, count as i64));
                assert!(distance < most, "{name}: {path} of row {row} in batches of {batch}: {distance:.1e}");
            }
        }
    }
    Ok(())
}

/// The likeliest next tokens, by a plain forward for each.
fn one_by_one(model: &Model, row: &[u32], count: usize) -> Result<Vec<u32>> {
    let mut text = row.to_vec();
    for _ in 0..count {
        let last = model.forward(&[text.clone()])?.values.get(0).get(text.len() as i64 - 1);
        text.push(last.argmax(-1, false).int64_value(&[]) as u32);
    }
    Ok(text.split_off(row.len()))
}

/// ln p of each response token, by one plain forward over the text. It is the whole text's length that rotations depend on.
fn scored(model: &Model, sample: &Sample) -> Result<Vec<f64>> {
    let logs = model.forward(&[sample.read()])?.values.get(0).log_softmax(-1, None);
    let places = sample.prompt.len() as i64 - 1..;
    Ok(sample.response.iter().zip(places).map(|(&id, place)| logs.double_value(&[place, i64::from(id)])).collect())
}

/// Generation, and scores of what was generated, are those of plain forwards over each text.
fn goes_on(name: &str, model: &Model, rows: &[Vec<u32>]) -> Result<()> {
    const COUNT: usize = 5;
    let alone: Vec<Vec<u32>> = rows.iter().map(|row| one_by_one(model, row, COUNT)).collect::<Result<_>>()?;
    for batch in [2, 64] {
        let together = model.generate(rows, &Generation::greedy(COUNT).ignore_eos().batch(batch))?;
        for (row, (together, alone)) in together.iter().zip(&alone).enumerate() {
            assert_eq!(&together.tokens.response, alone, "{name}: row {row} in batches of {batch}");
        }
    }
    // One prompt with responses of several lengths.
    let sample = |prompt: &Vec<u32>, response: &[u32]| Sample { prompt: prompt.clone(), response: response.to_vec() };
    let of = |(row, response): (&Vec<u32>, &Vec<u32>)| [1, 2, COUNT].map(|count| sample(row, &response[..count]));
    let samples: Vec<Sample> = rows.iter().zip(&alone).flat_map(of).collect();
    for (sample, values) in samples.iter().zip(model.log_likelihoods(&samples)?) {
        let expected = scored(model, sample)?;
        let same = values.len() == expected.len() && expected.iter().zip(&values).all(|(alone, value)| (alone - value).abs() < 1e-10);
        assert!(same, "{name}: scores of {sample:?}: {values:?} and {expected:?}");
    }
    Ok(())
}

#[test]
fn windows_and_all_families_parts_are_read_as_by_plain_forwards() -> Result<()> {
    for name in families() {
        let model = open(&name, Kind::Double);
        let all = fitting(&model, &rows(7), 0);
        if all.len() > 8 {
            assert!(Tree::of(&all, |_| usize::MAX).read(&all).iter().sum::<usize>() < all.iter().map(Vec::len).sum());
        }
        agrees(&name, &model, &all, 1e-10)?;
        goes_on(&name, &model, &fitting(&model, &rows(5), 5))?;
    }
    Ok(())
}

#[test]
fn windows_behind_virtual_tokens_and_in_f32() -> Result<()> {
    for name in ["gemma2", "gemma3", "mistral", "olmo3", "phi3", "smollm3_window"].map(|name| format!("families/{name}")) {
        let single = open(&name, Kind::Float);
        agrees(&name, &single, &rows(7), 1e-5)?;
        let model = open(&name, Kind::Double);
        tch::manual_seed(3);
        let prefix = Tensor::randn([3, model.config().hidden_size], (Kind::Double, Device::Cpu));
        let model = model.adapted(Rc::new(Counting { prefix: Some(prefix), tokens: Rc::default() }));
        agrees(&name, &model, &rows(6), 1e-10)?;
        goes_on(&name, &model, &rows(4))?;
    }
    Ok(())
}

/// Hidden states of a step of training, several texts in one batch.
fn teacher_forced(name: &str, model: &Model, rows: &[Vec<u32>]) -> Result<()> {
    let samples: Vec<Sample> = rows.iter().map(|row| Sample { prompt: row.clone(), response: words(7, 4) }).collect();
    for narrow in [false, true] {
        let teaching = TeacherForcing { depth: Depth::Full, narrow, packed: false, draws: None };
        let of = |samples: &[&Sample]| Ok::<_, crate::Error>(model.teacher_forced(samples, teaching, None)?.hidden.unwrap());
        let alone = samples.iter().map(|sample| of(&[sample])).collect::<Result<Vec<_>>>()?;
        let distance = apart(&of(&samples.iter().collect::<Vec<_>>())?, &Tensor::cat(&alone, 0));
        assert!(distance < 1e-10, "{name}: {distance:.1e}");
    }
    Ok(())
}

#[test]
fn texts_that_turn_anew_change_nothing_about_others() -> Result<()> {
    for name in ["families/llama_dynamic", "families/phi3_longrope"] {
        let model = open(name, Kind::Double);
        let rows = fitting(&model, &mixed(), 5);
        let long = rows.iter().filter(|row| model.turns_anew(row.len())).count();
        assert!(0 < long || name.ends_with("dynamic"), "{name}: {} of {}", long, rows.len());
        agrees(name, &model, &rows, 1e-10)?;
        goes_on(name, &model, &rows)?;
        teacher_forced(name, &model, &rows)?;
        // Those whose rotations change once they have gone on, and no other.
        let short: Vec<Vec<u32>> = rows.iter().filter(|row| !model.turns_anew(row.len())).cloned().collect();
        agrees(name, &model, &short, 1e-10)?;
        goes_on(name, &model, &short)?;
    }
    Ok(())
}

/// Doubles the queries, and says nothing about where it sits.
#[derive(Debug)]
struct Doubling;

impl Adapt for Doubling {
    fn linear(&self, module: &Frozen<'_>, input: &Tensor, _draws: Option<DropoutDraws>) -> Result<Tensor> {
        let output = module.forward(input)?;
        Ok(if module.path().ends_with("q_proj") { output * 2.0 } else { output })
    }
}

#[test]
fn an_adapter_of_parts_that_does_not_say_where_it_sits_is_asked_for_them() -> Result<()> {
    for name in ["families/phi3", "families/gpt2", "families/gpt_neox", "families/mistral"] {
        let model = open(name, Kind::Double);
        let row = [words(5, 20)];
        let mut hooks = Hooks::new();
        hooks.edit("model.layers.*.self_attn.q_proj", |_, value| Ok(Some(value * 2.0)));
        let expected = model.forward_with(&row, &mut hooks)?.values;
        let ours = model.adapted(Rc::new(Doubling)).forward(&row)?.values;
        assert!(apart(&ours, &expected) < 1e-12, "{name}");
    }
    Ok(())
}
