//! Readers of tasks, benchmarks, collections and trainings.

use super::*;

impl Workshop {
    pub(super) fn tasks(&self) -> Vec<Reader> {
        let rows = "{\"query\": \"Text:a\\nLabel:\", \"gold\": \"0\"}\n{\"query\": \"Text:b\\nLabel:\", \"gold\": \"1\", \"more\": [1]}\n\n{\"query\": \"Text:c\", \"gold\": \"0\"}\n";
        let csv = "Gold,note,query\n0,,\"Text:a, \"\"b\"\"\nLabel:\"\n1,x,Text:c\n0,,d\n";
        let cards = r#"{"mood": {"title": "Mood", "type": "label", "template": "Text:<X>\nLabel:", "labels": ["0", "1"], "stop": "\n\n",
            "max_new_tokens": 1, "ood": ["sum"], "license": "MIT", "source": "made up", "paper": null, "note": ""},
            "sum": {"type": "answer", "max_new_tokens": 24, "answer_after": "=>", "license": "MIT", "source": "made up"}}"#;
        let opened = |file: &Path| {
            let task = Task::open(file.to_string_lossy())?;
            Ok(format!("{:?} {:?} {}", task.card(), task.form(), frame(&task.frame()?)))
        };
        let mut readers = Vec::new();
        let array = r#"[{"query": "Text:a\nLabel:", "gold": "0"}, {"query": "Text:b", "gold": "1", "more": null}]"#;
        let files = [
            ("mood.jsonl", rows, Shape::Lines),
            ("mood.csv", csv, Shape::Table),
            ("mood.tsv", "gold\tquery\n0\ta\n1\tText:b\n", Shape::Table),
            ("mood.json", array, Shape::Json),
            ("tasks.json", cards, Shape::Json),
        ];
        for (name, text, shape) in files {
            let folder = self.place(&format!("task-{name}"));
            with_text(&folder, "tasks.json", cards);
            let task = with_text(&folder, "mood.jsonl", rows);
            let file = with_text(&folder, name, text);
            let read = if name.starts_with("mood") { file.clone() } else { task };
            readers.push(of_file(format!("task {name}"), shape, file, move || opened(&read)));
        }
        readers
    }

    pub(super) fn benchmarks(&self) -> Vec<Reader> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/benchmarks");
        let mut readers = Vec::new();
        for benchmark in Benchmark::all() {
            let mut variants: Vec<PathBuf> =
                std::fs::read_dir(root.join(benchmark.name())).unwrap().flatten().map(|entry| entry.path()).collect();
            variants.sort();
            for variant in variants {
                let label = format!("{}-{}", benchmark.name(), variant.file_name().unwrap().to_string_lossy());
                let folder = self.copy(&variant, &label);
                let mut files: Vec<PathBuf> =
                    crate::common::listing(&folder).into_iter().filter(|(_, bytes)| bytes.is_some()).map(|(path, _)| path).collect();
                files.retain(|path| {
                    path.extension().is_some_and(|extension| extension != "TXT") && !path.to_string_lossy().contains("cola")
                });
                // The part to learn from where there are several.
                let file = files.iter().find(|path| path.to_string_lossy().contains("train")).unwrap_or(&files[0]);
                let shape = match file.extension().unwrap().to_str().unwrap() {
                    "json" => Shape::Json,
                    "jsonl" => Shape::Lines,
                    "parquet" => Shape::Bytes,
                    _ => Shape::Table,
                };
                let own = benchmark.clone();
                let read = move || -> Outcome {
                    // A variant with one part only is drawn from as a whole.
                    let task = own.read(&folder).or_else(|error| match error.to_string().contains("to draw everything from it") {
                        true => own.clone().subsets(&[ia2::dataset::Subset::Train], &[])?.read(&folder),
                        false => Err(error),
                    })?;
                    task.counts()?;
                    Ok(frame(&task.frame()?))
                };
                if read().is_err_and(|error| error.to_string().contains("Looked for")) {
                    continue;
                }
                readers.push(of_file(format!("benchmark {label}"), shape, file.clone(), read).weight(0.4));
            }
        }
        assert!(readers.len() >= 24, "{} benchmarks' layouts", readers.len());
        readers
    }

    pub(super) fn collections(&self) -> Vec<Reader> {
        let responses = self.model.respond(&examples(4).zero_shot().unwrap()).unwrap();
        let folder = self.place("captured");
        let (file, again) = (folder.join("values.safetensors"), folder.join("again.safetensors"));
        capture(&self.model, &responses, "model.layers.*.mlp").unwrap().save(&file).unwrap();
        let place = file.clone();
        let captured = of_file("capture", Shape::Safetensors, file, move || {
            let opened = Activations::open(&place)?;
            let _ = opened.example(0)?;
            opened.frame()?;
            opened.save(&again)?;
            Ok(tensors(&again))
        });
        let split = split();
        let (file, again) = (folder.join("vector.safetensors"), folder.join("again.safetensors"));
        ia2::vector::FunctionVector::find(&self.model, &split).unwrap().save(&file).unwrap();
        let (place, model) = (file.clone(), self.model.clone());
        let vector = of_file("vector", Shape::Safetensors, file, move || {
            let opened = ia2::vector::Vector::open(&place, &model)?;
            opened.tried()?;
            opened.save(&again)?;
            Ok(tensors(&again))
        });
        let vector = vector.ours().weight(2.0);
        let (folder, again) = (self.place("shards"), self.place("shards-again").join("again.safetensors"));
        let collect = |model: &Model, split: &Split, folder: &Path| {
            let targets = Targets::of(model, split).distributions(Keep::Top(3)).shards(folder).shard_bytes(600).free_bytes(600);
            targets.collect()
        };
        collect(&self.model, &split, &folder).unwrap();
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).collect();
        files.sort();
        assert!(files.len() > 1, "several shards");
        let other = std::fs::read(&files[1]).unwrap();
        let (place, kept) = (folder.clone(), again.clone());
        let shards = of_file("shard", Shape::Safetensors, &files[0], move || {
            let opened = Activations::open(&place)?;
            let _ = opened.example(0)?;
            opened.frame()?;
            opened.save(&kept)?;
            Ok(tensors(&kept))
        });
        // The same files, on the way by which an interrupted collection goes on.
        let place = self.copy(&folder, "targets");
        let first = place.join(files[0].file_name().unwrap());
        let model = self.model.clone();
        let targets = of_file("shard of a collection that goes on", Shape::Safetensors, first, move || {
            let targets = collect(&model, &split, &place)?;
            targets.activations()?.save(&again)?;
            Ok(format!("{} {}", tensors(&again), frame(&targets.distributions()?.frame()?)))
        });
        vec![vector, captured.ours().weight(2.0), shards.ours().other(other.clone()).weight(2.0), targets.ours().other(other).weight(2.0)]
    }

    pub(super) fn trainings(&self) -> Vec<Reader> {
        let split = split();
        let new = || Training::new(Lora::rank(2).layers([1]), Sft::gold()).epochs(1).batch(2).check_every(1);
        let folder = self.place("trained");
        let file = folder.join("run.safetensors");
        let trained = new().checkpoint(&file).run(&self.model, &split).unwrap();
        trained.save(&folder).unwrap();
        let (model, checkpoint) = (self.model.clone(), file.clone());
        let state = of_file("checkpoint", Shape::Safetensors, file, move || {
            let trained = new().checkpoint(&checkpoint).run(&model, &split)?;
            // The run has ended and writes its state again as it was read.
            Ok(format!("{} {}", tensors(&checkpoint), frame(&trained.history()?)))
        });
        let place = folder.join("ia2_manifest.json");
        let manifest = of_file("ia2_manifest.json", Shape::Json, &place, {
            let place = place.clone();
            move || Manifest::open(&place)?.json()
        });
        let mut readers = vec![state.ours().weight(4.0), manifest.ours()];

        // The grid's files in a folder of their own.
        let task = ia2::dataset::Task::of(examples(12), Card::default());
        let folder = self.place("grid");
        let grid = Experiment::new(&self.model).task(&task).tested_on("words", &[]).sizes(&[4]).runs(1);
        let grid = grid.methods(&[Method::ZeroShot, Method::Sft]).adapters(&[Lora::rank(2).layers([1]).into()]).learning_rates(&[1e-3]);
        let grid = grid.epochs(1).test_at_most(4).compared_at_most(2).folder(&folder);
        grid.run().unwrap();
        let mut records: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).collect();
        records.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        records.sort();
        assert_eq!(records.len(), 2, "one record for each method");
        let inputs: Vec<Vec<u8>> = records.iter().map(|path| std::fs::read(path).unwrap()).collect();
        let trained = inputs.iter().position(|input| !String::from_utf8_lossy(input).contains("\"trained\": null")).unwrap();
        let reader = of_file("record of a run", Shape::Json, &records[trained], move || {
            let study = grid.so_far()?;
            Ok(format!("{} {}", frame(&study.frame()?), frame(&study.asim()?)))
        });
        let others: Vec<Vec<u8>> = inputs.iter().filter(|input| **input != reader.inputs[0]).cloned().collect();
        readers.push(others.into_iter().fold(reader, Reader::other).ours().weight(3.0));
        // For workers elsewhere. What is opened is shown without the models.
        let planned = self.place("planned");
        self.planned().prepare(&planned, &Slurm::new().program(env!("CARGO_BIN_EXE_ia2-worker"))).unwrap();
        readers.push(
            of_file("plan of a grid", Shape::Json, planned.join("cluster/plan.json"), move || {
                let study = Experiment::open(&planned)?;
                Ok(format!("{} {} {}", frame(&study.cells()?), frame(&study.frame()?), study.missing()))
            })
            .ours()
            .weight(3.0),
        );
        readers
    }
}
