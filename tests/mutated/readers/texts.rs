//! Readers of text: tokenizers, chats, prompts, what a model says.

use super::*;

impl Workshop {
    /// Special tokens and chat templates next to a tokenizer.
    pub(super) fn chats(&self) -> Vec<Reader> {
        const PIECES: &[&str] = &[
            "{{",
            "}}",
            "{%",
            "%}",
            "{% for m in messages %}",
            "{% endfor %}",
            "{% if ",
            "{% endif %}",
            "{% set x = ",
            "{% else %}",
            "{#",
            "#}",
            "-%}",
            "{%-",
            "messages",
            "m.content",
            "loop.index",
            "range(",
            ")",
            "99999",
            "|",
            "tojson",
            "upper",
            "trim",
            "namespace(x='a')",
            "[0]",
            "[-1]",
            "[::-1]",
            "~",
            "*",
            "+",
            "'",
            "bos_token",
            "raise_exception('no')",
            "strftime_now('%Y')",
            "{% generation %}",
            "{% endgeneration %}",
            "{% macro f(x) %}",
            "{% endmacro %}",
            "f(f)",
            "not ",
            "is defined",
            " in ",
            "None",
            "true",
            "{% raw %}",
            "é",
            "\n",
        ];
        let template = "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif %}\
            {{ '<' ~ m.role ~ '>' + m.content | trim }}\n{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}";
        let map = r#"{"bos_token": {"content": "t1", "lstrip": false, "normalized": false}, "eos_token": "t2", "additional_special_tokens": ["t3"]}"#;
        let files = [
            ("tokenizer_config.json", Shape::Json, TOKENIZER_CONFIG),
            ("special_tokens_map.json", Shape::Json, map),
            ("chat_template.jinja", Shape::Text(PIECES), template),
        ];
        let mut readers = Vec::new();
        for (name, shape, text) in files {
            let folder = self.place(&format!("chat-{name}"));
            with_text(&folder, "tokenizer.json", &words_tokenizer(40));
            with_text(&folder, "tokenizer_config.json", TOKENIZER_CONFIG);
            let file = with_text(&folder, name, text);
            readers.push(of_file(name, shape, file, move || {
                let tokenizer = Tokenizer::open(&folder)?;
                let chat = Chat::of([("system", "be brief"), ("user", "t5 t6"), ("assistant", "t7"), ("user", "é{{ 1 }}")]);
                // A template may refuse what it is given, and one need not be there.
                let written = [tokenizer.chat(&chat), tokenizer.chat(&chat.without_reply())].into_iter().map(|text| match text {
                    Ok(text) => Ok(text),
                    Err(error) if error.is_input() && !error.to_string().contains("takes") => {
                        Ok(format!("refused: {}", error.to_string().len() < 9_000))
                    }
                    Err(error) => Err(error),
                });
                let written = written.collect::<Result<Vec<_>>>()?;
                Ok(format!("{:?} {:?} {written:?}", tokenizer.bos(), tokenizer.eos()))
            }));
        }
        readers
    }

    pub(super) fn texts(&self) -> Vec<Reader> {
        const NUMBERS: &[&str] = &[
            "####",
            "\\boxed{",
            "}",
            "{",
            "-",
            "−",
            "$",
            "1",
            "0",
            "9",
            ",",
            ".",
            "/",
            " ",
            "\n",
            "answer is",
            "Answer:",
            "x",
            "_",
            "€",
            "%",
            "1,000",
            "(",
            ")",
            "٣",
            "½",
            "the answer",
            "miles",
            "the best answer is:",
            "İ",
            "ſ",
            "K",
            "\u{130}",
            "<|eot_id|>",
        ];
        const BOXES: &[&str] = &[
            "\\boxed{",
            "\\boxed ",
            "\\fbox{",
            "\\frac{",
            "\\frac",
            "\\dfrac",
            "\\sqrt{",
            "\\sqrt",
            "\\text{",
            "\\left",
            "\\right",
            "{",
            "}",
            "\\{",
            "\\}",
            "\\",
            "1",
            "x",
            "=",
            "/",
            "^\\circ",
            "\\!",
            "~",
            "$",
            "%",
            ",",
            "{,}",
            ".",
            " ",
            "\n",
            "\n\n",
            "-",
            "é",
            "🦀",
            "\u{301}",
            "\\mbox{",
            "\\textrm{",
        ];
        const PATTERNS: &[&str] = &[
            "*",
            "**",
            "model",
            ".",
            "layers",
            "self_attn",
            "mlp",
            "q_proj",
            "lm_head",
            ",",
            " ",
            "0",
            "1",
            "norm",
            "a",
            "model.layers.*.",
            "é",
            "",
            "*a",
        ];
        const NAMES: &[&str] = &[
            "org/",
            "name",
            "@",
            "main",
            "..",
            "/",
            ".",
            "tiny-icl",
            "\0",
            "~",
            "-",
            "--",
            "a",
            "refs/pr/1",
            "\\",
            " ",
            "é",
            "sentiment",
            ".jsonl",
            ".csv",
            "SST2",
        ];
        let forms: Vec<AnswerForm> = [AnswerForm::number(), AnswerForm::boxed(), AnswerForm::free().after("####").unwrap()]
            .into_iter()
            .flat_map(|form| [form.clone(), form.compat(Compat::Paper)])
            .collect();
        let answers = move |range: std::ops::Range<usize>| {
            let forms = forms[range].to_vec();
            move |text: &str| {
                let read = |form: &AnswerForm| {
                    let (answer, gold) = (form.answer(text), form.gold(text));
                    // An answer that is read again is itself, where reading gives one spelling.
                    Ok::<_, Error>(format!("{answer:?} {gold:?}"))
                };
                forms.iter().map(read).collect::<Result<Vec<_>>>().map(|all| all.join(" "))
            }
        };
        let points = self.model.hook_points().to_vec();
        let (model, adapted) = (self.model.clone(), self.model.clone());
        let responses = self.model.respond(&examples(2).zero_shot().unwrap()).unwrap();
        vec![
            of_text("answer: numbers", NUMBERS, &["48/2 = <<48/2=24>>24 clips.\n#### 72", "The answer is $1,250."], answers(0..2)),
            of_text("answer: boxes", BOXES, &["so $\\boxed{\\frac{1}{2}}$.", "\\boxed{x = 5\\text{ cm}}"], answers(2..4)),
            of_text("answer: after a marker", NUMBERS, &["1 #### 2 so #### red fox\nmore"], answers(4..6)),
            of_text("pattern of hook points", PATTERNS, &["model.layers.*.self_attn", "model.layers.0.mlp, lm_head"], move |pattern| {
                Ok(Selection::new(pattern)?.of(&points)?.join(" "))
            }),
            of_text("pattern of a capture", PATTERNS, &["model.layers.*.self_attn"], move |pattern| {
                Ok(format!("{:?}", Capture::at(pattern).plan(&model, &responses)?))
            }),
            of_text("pattern of an adapter's sites", PATTERNS, &["q_proj, v_proj", "model.layers.1.*.q_proj"], move |pattern| {
                let adapter = Adapter::new(&adapted, Lora::rank(1).sites(pattern), 0)?;
                let other = Adapter::new(&adapted, Lora::rank(1).sites("q_proj").rank_at(pattern, 2), 0).map(|adapter| adapter.count());
                Ok(format!("{} {:?}", adapter.count(), other.ok()))
            }),
            of_text("name of a model", NAMES, &["org/name", "tiny-icl"], |name| {
                // Names of what is there are opened elsewhere; here they must be told from all others.
                if name.trim_matches(['/', '.']).is_empty() || Path::new(name).exists() || name == "tiny-icl" {
                    return Ok(String::new());
                }
                Model::open(name).map(|model| format!("{model:?}"))
            }),
            of_text("name of a task", NAMES, &["sentiment"], |name| Ok(Task::open(name)?.name().to_owned())),
        ]
    }
}
