//! Whether tokens are drawn as often as temperature and nucleus say.

use tch::Kind;

use super::{Generation, Model};

/// The likeliest tokens that together hold `top_p` of the softmax of `logits / temperature`, each with its share of them; the others have 0.
fn expected(logits: &[f64], temperature: f64, top_p: f64) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|logit| ((logit - most) / temperature).exp()).collect();
    let all: f64 = weights.iter().sum();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
    let enough = |count: usize| order[..count].iter().map(|&id| weights[id]).sum::<f64>() >= (top_p - 1e-12) * all;
    let kept = &order[..(1..order.len()).find(|count| enough(*count)).unwrap_or(order.len())];
    let mass: f64 = kept.iter().map(|&id| weights[id]).sum();
    (0..weights.len()).map(|id| if kept.contains(&id) { weights[id] / mass } else { 0.0 }).collect()
}

#[test]
fn expectations_are_those_of_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sampling.json");
    let Ok(text) = std::fs::read(path) else { return crate::skipped(&format!("`{path}` is not here")) };
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let list = |name: &str| -> Vec<f64> { serde_json::from_value(case[name].clone()).unwrap() };
        let ours = expected(&list("logits"), case["temperature"].as_f64().unwrap(), case["top_p"].as_f64().unwrap());
        for (ours, theirs) in ours.iter().zip(list("probabilities")) {
            assert!((ours - theirs).abs() < 1e-9, "{case}: {ours} is not {theirs}");
        }
    }
}

#[test]
fn tokens_are_drawn_as_often_as_temperature_and_nucleus_say() {
    const DRAWS: usize = 4000;
    let model = Model::open("tiny-icl").unwrap();
    let prompt = model.tokenizer().unwrap().encode("Text:the soup was\nLabel:1\n\nText:the bread was").unwrap();
    let logits = model.forward(std::slice::from_ref(&prompt)).unwrap().values;
    let logits = Vec::<f64>::try_from(logits.get(0).get(prompt.len() as i64 - 1).to_kind(Kind::Double)).unwrap();
    let prompts = vec![prompt; DRAWS];
    for (place, (temperature, top_p)) in [(1.0, 1.0), (1.7, 0.8), (0.6, 0.95), (3.0, 0.4), (1.0, 0.01)].into_iter().enumerate() {
        let settings = Generation::greedy(1).sample(temperature, top_p, place as u64).batch(DRAWS);
        let drawn = model.generate(&prompts, &settings).unwrap();
        let mut counts = vec![0_usize; logits.len()];
        for one in &drawn {
            counts[one.tokens.response[0] as usize] += 1;
        }
        let expected = expected(&logits, temperature, top_p);
        let nucleus = expected.iter().filter(|p| **p > 0.0).count();
        assert!(if top_p < 0.1 { nucleus == 1 } else { nucleus > 3 }, "{nucleus} tokens: the prompt shows nothing");
        for (id, (&count, p)) in counts.iter().zip(expected).enumerate() {
            // Five standard deviations of a binomial count, and one for tokens so rare that it is none.
            let spread = (DRAWS as f64 * p * (1.0 - p)).sqrt();
            let far = (count as f64 - DRAWS as f64 * p).abs();
            assert!(
                far <= 5.0 * spread + if p > 0.0 { 2.0 } else { 0.0 },
                "temperature {temperature}, top_p {top_p}, token {id}: {count} of {DRAWS} draws at a probability of {p:.4}"
            );
        }
    }
}
