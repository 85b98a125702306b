//! The quickstart notebook as a program: `cargo run --example quickstart`.
//!
//! Outside a notebook every value shows its plain text.

use ia2::prelude::*;

const SITES: &str = "model.layers.*.self_attn";

fn main() -> Result<()> {
    let model = Model::open("tiny-icl")?;
    model.evcxr_display();

    let task = Task::open(std::env::args().nth(1).as_deref().unwrap_or("sentiment"))?;
    let arg = |i: usize, d: f64| std::env::args().nth(i).and_then(|a| a.parse().ok()).unwrap_or(d);
    let n = arg(2, 8.0) as usize;
    let run = arg(5, 0.0) as u64;
    let split = task.few_shot(n, run)?;

    let shown = evaluate(&model, &split.test.with_demonstrations(&split.train, 0)?)?;
    let alone = evaluate(&model, &split.test.zero_shot()?)?;
    let first = results(&[("zero-shot", &alone, None), ("ICL", &shown, None)])?;
    first.evcxr_display();

    let icl = model.respond(&split.test.take(100).with_demonstrations(&split.train, 0)?)?;
    let inside = capture(&model, &icl, SITES)?;
    let queries = icl.without_demonstrations(&model)?;
    let before = capture(&model, &queries, SITES)?.asim(&inside)?;

    let t = std::time::Instant::now();
    let target = capture(&model, &model.respond(&split.target_prompts(256)?)?, SITES)?;
    for &(rp, rs) in &[(arg(3, 1e-3), arg(4, 1e-3))] {
        let tuned = Training::new(Lora::rank(8), Sft::gold()).learning_rate(rs).run(&model, &split)?;
        let primed = Training::new(Lora::rank(8), Ia2::toward(&target)).learning_rate(rp).run(&model, &split)?;
        let both = Training::resume(&primed, Sft::gold())?.learning_rate(rs).run(&model, &split)?;
        println!("{:?} {:?} {:?}", tuned.dev_loss(), primed.dev_loss(), both.dev_loss());
        println!("{:?} {:?} {:?}", tuned.steps(), primed.steps(), both.steps());
        println!("{:?}", t.elapsed());
        let mut rows = vec![];
        for m in [&tuned, &primed, &both] {
            let q = split.test.zero_shot()?;
            rows.push((evaluate(m.model(), &q)?, capture(m.model(), &queries, SITES)?.asim(&inside)?));
        }
        results(&[
            ("zero-shot", &alone, Some(&before)),
            ("ICL", &shown, None),
            ("SFT only", &rows[0].0, Some(&rows[0].1)),
            ("IA2 only", &rows[1].0, Some(&rows[1].1)),
            ("IA2 → SFT", &rows[2].0, Some(&rows[2].1)),
        ])?
        .evcxr_display();
    }
    println!("{:?}", t.elapsed());
    Ok(())
}
