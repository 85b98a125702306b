//! `notebooks/quickstart.ipynb` as a program, without its five runs at the end: `cargo run --release --example quickstart`.
//!
//! Outside a notebook every value shows its plain text. The figures go to the folder given as the argument, if one is.

use ia2::interrupt;
use ia2::prelude::*;
use ia2::train::Stopped;

const SITES: &str = "model.layers.*.self_attn";

fn main() -> std::process::ExitCode {
    interrupt::exit_code(interrupt::listen().and_then(|()| run()))
}

fn run() -> Result<()> {
    // Files to examples.
    let model = Model::open("tiny-icl")?;
    model.evcxr_display();
    let task = Task::open("sentiment")?;
    task.evcxr_display();
    let split = task.few_shot(8, 0)?;
    split.train.evcxr_display();

    // Examples to answers: with the eight demonstrations and without.
    let shown = split.test.with_demonstrations(&split.train, 0)?;
    let queries = split.test.zero_shot()?;
    let icl = evaluate(&model, &shown)?;
    let alone = evaluate(&model, &queries)?;
    results(&[("zero-shot", &alone, None), ("ICL", &icl, None)])?.evcxr_display();

    // Answers to activations: the same responses, with and without demonstrations before the query.
    let responses = model.respond(&shown.take(100))?;
    let inside = capture(&model, &responses, SITES)?;
    inside.evcxr_display();
    let after_queries = responses.without_demonstrations(&model)?;
    let apart = capture(&model, &after_queries, SITES)?.asim(&inside)?;

    // Activations to adapters, as long as nobody interrupts it: SFT, IA2, and SFT after IA2.
    let tuned = Training::new(Lora::rank(8), Sft::gold()).learning_rate(3e-3).run(&model, &split)?;
    tuned.evcxr_display();
    let interrupted = |trained: &Trained| trained.stopped() == Stopped::Interrupted;
    if interrupted(&tuned) {
        return Ok(());
    }
    let targets = Targets::of(&model, &split).collect()?;
    let primed = Training::new(Lora::rank(8), targets.ia2()?).learning_rate(3e-3).run(&model, &split)?;
    primed.evcxr_display();
    if interrupted(&primed) {
        return Ok(());
    }
    let both = Training::resume(&primed, Sft::gold())?.run(&model, &split)?;
    both.evcxr_display();
    if interrupted(&both) {
        return Ok(());
    }

    // Adapters to frames and figures.
    let asim_tuned = capture(tuned.model(), &after_queries, SITES)?.asim(&inside)?;
    let asim_primed = capture(primed.model(), &after_queries, SITES)?.asim(&inside)?;
    let asim_both = capture(both.model(), &after_queries, SITES)?.asim(&inside)?;
    let layers = stack(&[("zero-shot", &apart), ("SFT", &asim_tuned), ("IA2", &asim_primed), ("IA2 → SFT", &asim_both)])?;
    let table = results(&[
        ("zero-shot", &alone, Some(&apart)),
        ("ICL", &icl, Some(&inside.asim(&inside)?)),
        ("SFT", &evaluate(tuned.model(), &queries)?, Some(&asim_tuned)),
        ("IA2", &evaluate(primed.model(), &queries)?, Some(&asim_primed)),
        ("IA2 → SFT", &evaluate(both.model(), &queries)?, Some(&asim_both)),
    ])?;
    table.evcxr_display();
    if let Some(folder) = std::env::args().nth(1) {
        lines(&layers, "layer", "asim", "method")?.save(format!("{folder}/asim.png"))?;
        bars(&table, "method", "accuracy", "method")?.save(format!("{folder}/accuracy.png"))?;
        bars(&table, "method", "ece_equal_width_15", "method")?.save(format!("{folder}/ece.png"))?;
    }
    Ok(())
}
