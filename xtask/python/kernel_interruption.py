"""The process that runs the cells dies in the middle of long work; the same cells again go on, and nothing is lost or half-written."""

import hashlib
import json
from pathlib import Path

READY = """let model = Model::open("tiny-icl")?;
let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(8, 0)?;"""


def ages(folder: Path, pattern: str) -> dict[str, int]:
    """The files of a folder, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(pattern)}


def half_written() -> str:
    """How a file is called that this machine is writing, since it was started."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f".ia2-{hashlib.sha256(boot.encode()).hexdigest()[:8]}-abcdef.partial"


def unfinished(folder: Path) -> list[str]:
    """Files and folders that somebody began to write."""
    return sorted(str(path) for path in folder.rglob("*") if path.name.startswith((".ia2-", ".tmp")))


def tensors(path: Path):
    """What a safetensors file holds, without the text metadata: its checksums are of a run's times as well."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    del header["__metadata__"]
    return header, content[start:]


def a_panic_is_survived(kernel):
    kernel.run("let kept = 41;", quiet=True)
    result = kernel.run('if kept > 0 { panic!("on purpose") }', fails=True)
    assert "on purpose" in result.error and not result.stderr, (result.error, result.stderr)
    assert kernel.run('println!("{}", kept + 1);', quiet=True).stdout.strip() == "42"


def a_killed_training_continues(kernel):
    """Killed at its third checkpoint, a training gives the same weights to the byte."""
    folder = Path(kernel.folder.name)
    training = "let run = Training::new(Lora::rank(2), Sft::gold()).epochs(30).check_every(4)"
    kernel.run(READY, quiet=True)
    kernel.run(f'{training}.run(&model, &split)?;\nrun.save("whole")?;', quiet=True)
    seen = set()

    def third_checkpoint():
        seen.update(ages(folder, "state").values())
        return len(seen) >= 3

    died = kernel.killed_when(third_checkpoint, f'{training}.checkpoint("state").run(&model, &split)?;')
    assert died.error and (folder / "state").exists(), (died.error, died.stdout, died.stderr)
    # As it would be after a kill in the middle of a write.
    (folder / half_written()).write_bytes(b"half")
    kernel.run(READY, quiet=True)
    kernel.run(f'{training}.checkpoint("state").run(&model, &split)?;\nrun.save("continued")?;', quiet=True)
    weights = [tensors(folder / name / "adapter_model.safetensors") for name in ("whole", "continued")]
    assert weights[0] == weights[1], "the continued run has other weights"
    assert not unfinished(folder), unfinished(folder)


def a_killed_grid_continues(kernel):
    """Killed twice among its runs: what was done is not done again, and the results are those of a grid that was let alone."""
    folder = Path(kernel.folder.name)
    grid = """let study = Experiment::new(&Model::open("tiny-icl")?).tasks(&["sentiment"]).sizes(&[2, 4]).runs(2)
    .methods(&[Method::Icl, Method::Sft]).learning_rates(&[1e-3, 3e-3]).epochs(4).test_at_most(8).compared_at_most(4)
    .folder("{}").run()?;"""
    kernel.run(grid.replace("{}", "grid_whole"), quiet=True)
    whole, cut = folder / "grid_whole", folder / "grid_cut"
    runs, done = len(ages(whole, "*.json")), {}
    assert runs == 12, ages(whole, "*.json")
    for enough in (3, 8):
        died = kernel.killed_when(lambda: len(ages(cut, "*.json")) >= enough, grid.replace("{}", "grid_cut"))
        assert died.error, (died.stdout, died.stderr)
        now = ages(cut, "*.json")
        assert enough <= len(now) < runs, sorted(now)
        assert done.items() <= now.items(), "what was done was done again"
        done = now
    shown = kernel.run(grid.replace("{}", "grid_cut") + "\nstudy").shown["text/plain"]
    assert shown.startswith("Study(12 runs)"), shown
    assert done.items() <= ages(cut, "*.json").items(), "what was done was done again"
    assert not unfinished(cut), unfinished(cut)

    def results(path):
        record = json.loads(path.read_text())
        del record["ia2_checksum"]
        if record["trained"]:
            record["trained"].pop("seconds")
            record["trained"]["cost"].pop("seconds")
        return record

    assert sorted(ages(cut, "*.json")) == sorted(ages(whole, "*.json"))
    for path in whole.glob("*.json"):
        assert results(path) == results(cut / path.name), path.name
    for path in whole.glob("*/adapter_model.safetensors"):
        assert tensors(path) == tensors(cut / path.parent.name / path.name), path


def a_killed_capture_continues(kernel):
    """Targets on disk, killed twice: files that are there stay as they are, and all are, to the byte, those of a collection let alone."""
    folder = Path(kernel.folder.name)
    whole, cut = folder / "targets_whole", folder / "targets_cut"
    collect = """let split = Task::open("sentiment")?.test_at_most(4)?.few_shot(16, 0)?;
let targets = Targets::of(&Model::open("tiny-icl")?, &split).orders(4).free_bytes(1).shard_bytes(1).shards("{}").collect()?;"""
    kernel.run(collect.replace("{}", whole.name), quiet=True)
    shards, done = len(ages(whole, "shard-*")), {}
    assert shards > 50, ages(whole, "*")
    for enough in (5, 30):
        died = kernel.killed_when(lambda: len(ages(cut, "shard-*")) >= enough, collect.replace("{}", cut.name))
        assert died.error, (died.stdout, died.stderr)
        now = ages(cut, "shard-*")
        assert enough <= len(now) < shards and done.items() <= now.items(), sorted(now)
        done = now
    # As it would be after a kill in the middle of a write.
    (cut / half_written()).write_bytes(b"half")
    kernel.run(collect.replace("{}", cut.name), quiet=True)
    assert done.items() <= ages(cut, "shard-*").items(), "what was done was done again"
    assert not unfinished(cut), unfinished(cut)
    assert sorted(ages(cut, "*")) == sorted(ages(whole, "*"))
    for path in whole.iterdir():
        assert path.read_bytes() == (cut / path.name).read_bytes(), path.name


TESTS = [a_panic_is_survived, a_killed_training_continues, a_killed_grid_continues, a_killed_capture_continues]
