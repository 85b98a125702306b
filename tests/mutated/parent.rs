//! The parent, which looks after the child that opens inputs.

use super::*;

struct Found {
    tried: BTreeMap<String, Tried>,
    findings: Vec<(String, String, String, String)>,
}

/// Runs children until all is done.
fn look_after(mut job: Job) -> (Found, tempfile::TempDir) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let mut deaths: BTreeMap<u64, usize> = BTreeMap::new();
    let mut found = Found { tried: BTreeMap::new(), findings: Vec::new() };
    loop {
        let work = folder.path().join("work");
        let _ = std::fs::remove_dir_all(&work);
        std::fs::create_dir(&work).unwrap();
        let began_at = job.from;
        let Some(why) = one_child(&job, folder.path()) else { break };
        let state = state(folder.path()).expect("a child that never began");
        assert!(state.1 != u64::MAX && state.0 != u64::MAX, "the child ended outside of any input: {why}\n{}", last_words(folder.path()));
        let label = format!("{}", state.1);
        let reader = format!("#{}", state.0);
        let kept = folder.path().join(format!("reader{}.{label}.ended", state.0));
        std::fs::copy(folder.path().join("current"), kept).ok();
        found.findings.push((reader, label, "ended".into(), format!("{why}\n{}", last_words(folder.path()))));
        let count = deaths.entry(state.0).or_default();
        *count += 1;
        if *count >= if job.seconds < 120.0 { DEATHS_IN_SHORT } else { DEATHS } {
            job.without.push(state.0);
        }
        job.from = (state.0, state.1 + 1, state.2 as f64 / 1e6);
        if began_at.0 == state.0 {
            let tried = found.tried.entry(format!("#{}", state.0)).or_default();
            tried.inputs += state.1 + 1 - began_at.1;
        }
    }
    let names: Vec<String> = serde_json::from_str(&std::fs::read_to_string(folder.path().join("names")).unwrap()).unwrap();
    let named = |name: &str| {
        name.strip_prefix('#').and_then(|place| place.parse::<usize>().ok()).map_or(name.to_string(), |place| names[place].clone())
    };
    found.findings.iter_mut().for_each(|finding| finding.0 = named(&finding.0));
    found.tried = std::mem::take(&mut found.tried).into_iter().map(|(name, tried)| (named(&name), tried)).collect();
    for line in std::fs::read_to_string(folder.path().join("lines")).unwrap().lines() {
        match serde_json::from_str(line).unwrap() {
            Line::Finding { reader, input, kind, text } => found.findings.push((reader, input, kind, text)),
            Line::Done { reader, tried } => {
                let all = found.tried.entry(reader).or_default();
                all.inputs += tried.inputs;
                all.opened += tried.opened;
                all.seconds += tried.seconds;
                tried.found.into_iter().for_each(|(kind, count)| *all.found.entry(kind).or_default() += count);
            }
        }
    }
    (found, folder)
}

/// Why the child ended before its time; `None` if it did all.
fn one_child(job: &Job, folder: &Path) -> Option<String> {
    let errors = std::fs::File::create(folder.join("errors")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -c 0; ulimit -v {ADDRESSES_KB}; exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env(FOLDER, folder).env(TASK, serde_json::to_string(job).unwrap());
    command.env("HF_HUB_CACHE", folder.join("work/hub")).env("OMP_NUM_THREADS", "1").env("RUST_BACKTRACE", "0");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).process_group(0).spawn().unwrap();
    let (mut last, mut since) = (None, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(50));
        if let Some(status) = child.try_wait().unwrap() {
            return match status.signal() {
                _ if status.success() => None,
                Some(signal) => Some(format!("signal {signal}")),
                None => Some(format!("{status}")),
            };
        }
        let now = state(folder);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        // By the clock, for what never ends; other work on the machine may take most of it. Making the readers' files is no input.
        let patience = if last.is_some_and(|last| last.1 != u64::MAX) { 12 * PATIENCE } else { 60 * PATIENCE };
        let memory = resident(child.id());
        let why = if since.elapsed() > patience {
            format!("no answer within {patience:?}")
        } else if memory > MEMORY {
            format!("{memory} bytes of memory")
        } else {
            continue;
        };
        child.kill().unwrap();
        child.wait().unwrap();
        return Some(why);
    }
}

fn last_words(folder: &Path) -> String {
    let text = std::fs::read(folder.join("errors")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().rev().take(6).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn state(folder: &Path) -> Option<(u64, u64, u64)> {
    let bytes = std::fs::read(folder.join("state")).ok().filter(|bytes| bytes.len() == 24)?;
    let number = |place: usize| u64::from_le_bytes(bytes[8 * place..8 * place + 8].try_into().unwrap());
    Some((number(0), number(1), number(2)))
}

fn resident(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Shows what was tried, keeps the inputs of what was found, and fails for all that is not known.
pub fn judge(work: Work, default_seconds: f64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok());
    let seconds = number("IA2_FUZZ_SECONDS").unwrap_or(default_seconds);
    let seed = number("IA2_FUZZ_SEED").map_or(SEED, |seed| seed as u64);
    let only = std::env::var("IA2_FUZZ_ONLY").ok().filter(|only| !only.is_empty());
    let job = Job { work, seed, seconds, only, from: (0, 0, 0.0), without: Vec::new() };
    let (found, folder) = look_after(job);
    println!("{:<55} {:>9} {:>9} {:>9}", format!("{work:?}, seed {seed}"), "inputs", "opened", "seconds");
    for (name, tried) in &found.tried {
        let found: Vec<String> = tried.found.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("{name:<55} {:>9} {:>9} {:>9.1}  {}", tried.inputs, tried.opened, tried.seconds, found.join(", "));
    }
    let total: u64 = found.tried.values().map(|tried| tried.inputs).sum();
    println!("{:<55} {total:>9}", format!("{} readers", found.tried.len()));
    assert!(total > 0, "nothing was tried");
    let known = |finding: &&(String, String, String, String)| {
        KNOWN.iter().any(|(reader, kind, _)| finding.0.starts_with(reader) && finding.2 == *kind)
    };
    let (known, open): (Vec<_>, Vec<_>) = found.findings.iter().partition(known);
    for (reader, input, kind, text) in &known {
        println!("known: {reader}, input {input}: {kind}: {text}");
    }
    if open.is_empty() {
        return;
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/mutated/{work:?}"));
    let _ = std::fs::remove_dir_all(&kept);
    std::fs::create_dir_all(&kept).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), kept.join(entry.file_name())).unwrap();
    }
    let shown: Vec<String> = open.iter().map(|(reader, input, kind, text)| format!("{reader}, input {input}: {kind}: {text}")).collect();
    let shown: Vec<String> = shown.iter().map(|line| line.replace('\n', "\n    ")).collect();
    panic!(
        "{} findings (their inputs: {}; what is cured goes to tests/corpus):\n{}",
        found.findings.len(),
        kept.display(),
        shown.join("\n")
    );
}
