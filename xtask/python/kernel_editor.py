"""What an editor asks between cells: completion (Tab) and inspection (Shift-Tab). Neither may end the kernel."""

from kernel import ROOT, Kernel

# Names of several kinds that the requests below are about.
READY = """let asked_model = Model::open("tiny-icl")?;
let asked_split = Task::open("sentiment")?.test_at_most(4)?.few_shot(4, 0)?;
let asked_frame = evaluate(&asked_model, &asked_split.test.zero_shot()?)?;
let asked_adapter = Adapter::new(&asked_model, Lora::rank(2), 0)?;
fn asked_own(model: &Model, number: usize) -> usize { model.hook_points().len() + number }"""
# `¦` is where the cursor is; what is offered must hold a name that begins so.
COMPLETED = {
    # Inside the parentheses of calls: a function's, a method's, a function's of one's own, a constructor's, nested ones.
    "evaluate(&asked_mod¦": "asked_model",
    "evaluate(&asked_mod¦)": "asked_model",
    "evaluate(&asked_mod¦, &asked_split.test.zero_shot()?)?": "asked_model",
    "bars(&asked_fr¦": "asked_frame",
    "asked_split.test.with_demonstrations(&asked_spl¦": "asked_split",
    "asked_model.with(&asked_ad¦)": "asked_adapter",
    "asked_own(&asked_model, asked_sp¦": "asked_split",
    "Adapter::new(&asked_mo¦": "asked_model",
    "accuracy(&evaluate(&asked_model.with(&asked_ad¦": "asked_adapter",
    "let some = Some(asked_mo¦": "asked_model",
    "if asked_own(&asked_mo¦": "asked_model",
    # Of macros.
    'println!("{}", asked_mod¦)': "asked_model",
    'vec![asked_mod¦]': "asked_model",
    'df!("a" => asked_mod¦)?': "asked_model",
    # At the end of a name and in its middle; behind a dot; a path; an empty place.
    "asked_mod¦": "asked_model",
    "asked_¦model": "asked_model",
    "asked_model.resp¦": "respond",
    "asked_model.re¦spond": "respond",
    "asked_model.¦": "respond",
    "asked_split.test.¦": "zero_shot",
    "evaluate(asked_model.¦": "respond",
    "Device::¦": "Cpu",
    "let a = 1;\nasked_mod¦\nlet b = 2;": "asked_model",
    "evaluate(¦": "",
}
# What is told must hold this.
INSPECTED = {
    "eval¦uate": "fn evaluate",
    "¦evaluate": "fn evaluate",
    "evaluate¦": "fn evaluate",
    "evaluate(¦": "fn evaluate",
    "evaluate(¦&asked_model)": "fn evaluate",
    "evaluate(&asked_¦model": "asked_model",
    "evaluate(&asked_¦model, &asked_split.test.zero_shot()?)?": "asked_model",
    "evaluate(&asked_model, &asked_split.test.zero¦_shot()?)?": "fn zero_shot",
    "asked_model.resp¦ond(&asked_split.test.zero_shot()?)": "fn respond",
    "asked_model.respond(¦": "fn respond",
    "asked_split.test.with_demon¦strations(&asked_split.train, 0)?": "fn with_demonstrations",
    "asked_own(&asked_¦model, 1)": "asked_model",
    "asked_¦own(&asked_model, 1)": "fn asked_own",
    'println!("{}", asked_¦model)': "asked_model",
    'println!("{:?}", evaluate(&asked_¦model, &asked_split.test.zero_shot()?))': "asked_model",
    "let first = asked_own(&asked_model, 1);\nfir¦st + 1": "first: usize",
    "let first = 1;\nlet second = 2;\n¦asked_model": "asked_model",
    "let first = Mo¦del::open(\"tiny-icl\")?;\nfirst": "struct Model",
}
# rust-analyzer does not look into a macro whose parentheses are open; an answer there must be, and the kernel go on.
UNKNOWN = ['println!("{}", asked_mod¦', "vec![asked_mod¦", 'df!("a" => vec![asked_mod¦', "let x = ¦", "((((¦", "'¦", '"asked_mod¦', "¦", "fn ¦", ":dep¦", "é.asked_mod¦"]


def answered(kernel: Kernel):
    """All requests answered as they should be, a cell run after each."""
    wrong = []
    for place, (code, offered) in enumerate(COMPLETED.items()):
        matches = kernel.complete(code)
        if not any(match.startswith(offered) for match in matches):
            wrong.append((code, matches[:10]))
        assert kernel.run(f'println!("{{}}", {place} + 1);', quiet=True).stdout.strip() == str(place + 1), code
    for place, (code, told) in enumerate(INSPECTED.items()):
        text = kernel.inspect(code)
        if told not in text:
            wrong.append((code, text[:300]))
        assert kernel.run(f'println!("{{}}", {place} + 1);', quiet=True).stdout.strip() == str(place + 1), code
    for place, code in enumerate(UNKNOWN):
        kernel.complete(code)
        kernel.inspect(code)
        assert kernel.run(f'println!("{{}}", {place} + 1);', quiet=True).stdout.strip() == str(place + 1), code
    assert not wrong, "\n".join(map(str, wrong))


def an_editor_is_answered(kernel):
    """Completion and inspection in calls, methods and macros, with our prelude; the next cell runs."""
    kernel.run(READY, quiet=True)
    answered(kernel)


def an_editor_is_answered_without_the_prelude(_kernel):
    """The same where a notebook's own evcxr.toml names the library alone, before and after polars' prelude comes in."""
    kernel = Kernel(f'[dependencies]\nia2 = {{ path = "{ROOT}" }}\n')
    try:
        assert not kernel.complete("DataFr¦"), "this kernel has a prelude"
        kernel.run('let early_model = ia2::model::Model::open("tiny-icl")?;', quiet=True)
        assert "early_model" in kernel.complete("Some(early_mod¦")
        assert "struct Model" in kernel.inspect("ia2::model::Mod¦el")
        kernel.run("use ia2::prelude::*;", quiet=True)
        kernel.run(READY, quiet=True)
        answered(kernel)
    finally:
        kernel.end()


def what_is_private_is_not_offered(kernel):
    """A cell cannot name another crate's private fields."""
    kernel.run(READY, quiet=True)
    offered = kernel.complete("asked_model.¦")
    # A model has public methods and no public field; a method is offered with its parentheses.
    assert any(match.startswith("respond(") for match in offered), offered
    assert all("(" in match for match in offered), [match for match in offered if "(" not in match]


TESTS = [an_editor_is_answered, an_editor_is_answered_without_the_prelude, what_is_private_is_not_offered]
