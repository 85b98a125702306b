"""Interrupts: work stops and every variable stays; what does not stop is ended, and the reader is told."""

import os
import queue
import random
import shutil
import signal
import time
from pathlib import Path

from kernel import ANSWER_TIMEOUT, Kernel
from kernel_interruption import ages, tensors, unfinished

READY = """use ia2::train::Stopped;
let kept = 41i64;
let kept_text = "text".to_owned();
let kept_frame = df!("layer" => [0i64, 1], "norm" => [1.5f64, 2.5])?;
let model = Model::open("tiny-icl")?;
let split = Task::open("sentiment")?.test_at_most(48)?.few_shot(8, 0)?;"""
KEPT = 'println!("{kept} {kept_text} {:?} {}", kept_frame.column("norm")?.f64()?.sum(), split.train.len());'
# Two deliveries that are nearer than this are one press to the kernel.
PRESS = 0.45


class Watched:
    """A cell that runs while the test does something else."""

    def __init__(self, kernel: Kernel, code: str):
        self.kernel, self.stdout, self.stderr, self.states, self.live = kernel, "", "", [], []
        self.error = None
        self.id = kernel.client.execute(code)
        self.began = time.monotonic()

    def step(self, timeout: float) -> str | None:
        """Takes one message of the cell's; says its type."""
        try:
            message = self.kernel.client.get_iopub_msg(timeout=timeout)
        except queue.Empty:
            return None
        if message["parent_header"].get("msg_id") != self.id:
            return ""
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif kind == "status":
            self.states.append(content["execution_state"])
        elif kind == "error":
            self.error = "\n".join(content["traceback"])
        elif kind in ("display_data", "update_display_data"):
            self.live.append((time.monotonic() - self.began, kind, content))
        return kind

    def until(self, ready, timeout: float = 120):
        """Takes messages until `ready()`."""
        end = time.monotonic() + timeout
        while not ready():
            assert time.monotonic() < end, (self.stdout, self.stderr, self.states)
            self.step(0.05)

    def printed(self, text: str):
        self.until(lambda: text in self.stdout)

    def end(self, timeout: float = 120) -> dict:
        """What the kernel replies to the cell."""
        self.until(lambda: "idle" in self.states, timeout)
        late = time.monotonic() + 1
        while self.step(0.1) is not None and time.monotonic() < late:
            pass
        while True:
            reply = self.kernel.client.get_shell_msg(timeout=ANSWER_TIMEOUT)
            if reply["parent_header"].get("msg_id") == self.id:
                return reply["content"]


def as_jupyter_client(kernel):
    kernel.manager.interrupt_kernel()


def as_vs_code(kernel):
    """A message on the control channel of its own client."""
    kernel.client.control_channel.send(kernel.client.session.msg("interrupt_request", content={}))


def as_a_signal(kernel):
    os.kill(kernel.manager.provisioner.pid, signal.SIGINT)


def as_a_signal_to_all(kernel):
    os.killpg(os.getpgid(kernel.manager.provisioner.pid), signal.SIGINT)


WAYS = [as_jupyter_client, as_vs_code, as_a_signal, as_a_signal_to_all]


def nothing_is_lost(kernel, child: int):
    said = kernel.run(KEPT, quiet=True).stdout.strip()
    assert said == "41 text Some(4.0) 8", said
    assert kernel.child() == child, "the process that holds the variables is another one"


# What is interrupted at random moments: `work` gives its value or an error, and is done when it was not interrupted.
TRAINING = """Training::new(Lora::rank(2), Sft::gold()).epochs(40).check_every(4).checkpoint("hundred_state").run(&model, &split)"""
GRID = """Experiment::new(&model).tasks(&["sentiment"]).sizes(&[2, 4]).runs(2).methods(&[Method::Icl, Method::Sft]).learning_rates(&[1e-3, 3e-3])
    .epochs(4).test_at_most(8).compared_at_most(4).folder("FOLDER").run()"""
CAPTURE = """Targets::of(&model, &split).orders(4).free_bytes(1).shard_bytes(1).shards("FOLDER").collect()"""
COLLECT = """Targets::of(&model, &split).orders(16).collect()"""
EVALUATE = """evaluate(&model, &shots)"""
ROUNDS = 20


def rounds(work: str, stopped: str, again: str = "") -> str:
    """Does the work again and again, until it was interrupted ROUNDS times."""
    return f"""let mut stops = 0;
while stops < {ROUNDS} {{
    println!("round");
    match {work} {{
        Ok(value) if {stopped} => stops += 1,
        Ok(_) => {{ {again} }}
        Err(error) if error.is_interrupted() => stops += 1,
        Err(error) => return Err(error.into()),
    }}
    println!("answered");
}}"""


def disturbed(kernel, code: str, seconds: float, chance: random.Random) -> int:
    """Interrupts each round of the cell at a moment of its own; returns how often."""
    cell, presses, last = Watched(kernel, code), 0, 0.0
    while "idle" not in cell.states:
        cell.until(lambda: cell.stdout.count("round") > cell.stdout.count("answered") or "idle" in cell.states)
        if "idle" in cell.states:
            break
        moment = time.monotonic() + chance.uniform(0, seconds)
        moment = max(moment, last + PRESS)
        cell.until(lambda: time.monotonic() >= moment or "idle" in cell.states)
        if "idle" in cell.states:
            break
        WAYS[presses % len(WAYS)](kernel)
        presses, last = presses + 1, time.monotonic()
        answered = cell.stdout.count("answered")
        cell.until(lambda: cell.stdout.count("answered") > answered or "idle" in cell.states, timeout=60)
    reply = cell.end()
    assert reply["status"] == "ok", (reply, cell.error, cell.stderr, cell.stdout[-500:])
    return presses


def a_hundred_interrupts_lose_nothing(kernel):
    """At random moments of training, grid, capture to disk, collection and evaluation, in all the ways in which front-ends interrupt."""
    folder, chance = Path(kernel.folder.name), random.Random(0)
    kernel.run(READY + "\nlet shots = split.test.with_demonstrations(&split.train, 0)?;", quiet=True)
    child = kernel.child()
    whole = {"seconds": {}}

    def timed(name: str, code: str) -> float:
        whole["seconds"][name] = kernel.run(code, quiet=True).seconds
        return whole["seconds"][name]

    plain = TRAINING.replace('.checkpoint("hundred_state")', "")
    timed("training", f'let whole = {plain}?;\nwhole.save("hundred_whole")?;')
    timed("grid", f'{GRID.replace("FOLDER", "hundred_grid_whole")}?;')
    timed("capture", f'{CAPTURE.replace("FOLDER", "hundred_shards_whole")}?;')
    timed("collect", f"{COLLECT}?;")
    timed("evaluate", f"{EVALUATE}?;")
    seconds = {name: min(max(took - 0.4, 0.3), 1.5) for name, took in whole["seconds"].items()}
    remove = lambda name: f'let _ = std::fs::remove_dir_all("{name}"); let _ = std::fs::remove_file("{name}");'
    grid, shards = GRID.replace("FOLDER", "hundred_grid"), CAPTURE.replace("FOLDER", "hundred_shards")
    presses = disturbed(kernel, rounds(TRAINING, "value.stopped() == Stopped::Interrupted", remove("hundred_state")), seconds["training"], chance)
    nothing_is_lost(kernel, child)
    presses += disturbed(kernel, rounds(grid, "value.missing() > 0", remove("hundred_grid")), seconds["grid"], chance)
    nothing_is_lost(kernel, child)
    presses += disturbed(kernel, rounds(shards, "false", remove("hundred_shards")), seconds["capture"], chance)
    presses += disturbed(kernel, rounds(COLLECT, "false"), seconds["collect"], chance)
    presses += disturbed(kernel, rounds(EVALUATE, "false"), seconds["evaluate"], chance)
    assert presses >= 5 * ROUNDS, presses
    nothing_is_lost(kernel, child)
    assert not unfinished(folder), unfinished(folder)
    # What was interrupted goes on to what undisturbed work gave.
    kernel.run(f'let continued = {TRAINING}?;\ncontinued.save("hundred_continued")?;', quiet=True)
    weights = [tensors(folder / f"hundred_{name}" / "adapter_model.safetensors") for name in ("whole", "continued")]
    assert weights[0] == weights[1], "the continued training has other weights"
    kernel.run(f"let study = {grid}?;\nlet targets = {shards}?;", quiet=True)
    for name in ("grid", "shards"):
        one, other = folder / f"hundred_{name}_whole", folder / f"hundred_{name}"
        assert sorted(ages(one, "*")) == sorted(ages(other, "*")), name
        for path in one.rglob("*.safetensors"):
            assert tensors(path) == tensors(other / path.relative_to(one)), path
    nothing_is_lost(kernel, child)
    for path in folder.glob("hundred_*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def a_press_is_one_however_it_comes(kernel):
    """As a message, a signal to the kernel, and one to all its processes, all at once: the training ends early, and nothing else does."""
    kernel.run(READY, quiet=True)
    child = kernel.child()
    training = "let long = Training::new(Lora::rank(2), Sft::gold()).epochs(100000).patience(1000000).run(&model, &split)?;"
    cell = Watched(kernel, f'println!("go");\n{training}\nprintln!("{{:?}}", long.stopped());')
    cell.printed("go")
    time.sleep(0.5)
    pressed = time.monotonic()
    for way in WAYS:
        way(kernel)
    reply = cell.end()
    took = time.monotonic() - pressed
    assert reply["status"] == "ok" and "Interrupted" in cell.stdout and took < 5, (reply, cell.stdout, cell.stderr, took)
    assert cell.stderr.count("asked to stop") == 1 and "variables stay" in cell.stderr, cell.stderr
    assert kernel.run('println!("{}", long.history()?.height() > 0);', quiet=True).stdout.strip() == "true"
    nothing_is_lost(kernel, child)


def an_interrupt_of_nothing_is_nothing(kernel):
    """While no cell runs, and while one is compiled."""
    kernel.run(READY, quiet=True)
    child = kernel.child()
    for way in (as_jupyter_client, as_vs_code, as_a_signal):
        way(kernel)
        time.sleep(PRESS)
    nothing_is_lost(kernel, child)
    cell = Watched(kernel, 'let unmade = kept + 1;\nprintln!("it ran");')
    cell.until(lambda: "busy" in cell.states)
    as_vs_code(kernel)
    reply = cell.end()
    assert reply["status"] == "error" and "before it ran" in reply["evalue"], (reply, cell.stdout)
    assert "will not run" in cell.stderr and not cell.stdout, (cell.stderr, cell.stdout)
    nothing_is_lost(kernel, child)


def what_waits_behind_an_interrupted_cell_does_not_run(kernel):
    """"Run all" stops where its reader stopped it, although the cell itself gave a value."""
    kernel.run(READY, quiet=True)
    long = "let long = Training::new(Lora::rank(2), Sft::gold()).epochs(100000).patience(1000000).run(&model, &split)?;"
    cell = Watched(kernel, f'println!("go");\n{long}')
    behind = [kernel.client.execute(f'println!("behind {number}");') for number in range(2)]
    cell.printed("go")
    time.sleep(0.3)
    as_jupyter_client(kernel)
    reply = cell.end()
    assert reply["status"] == "ok", reply
    for request in behind:
        message = kernel.client.get_shell_msg(timeout=ANSWER_TIMEOUT)
        assert message["parent_header"]["msg_id"] == request and message["content"]["status"] == "aborted", message["content"]
    assert kernel.run('println!("{}", long.history()?.height() > 0);', quiet=True).stdout.strip() == "true"


def an_endless_loop_is_told_and_then_ended(kernel):
    """The first interrupt says what a second one does; after that, what is gone and how to go on."""
    kernel.run(READY, quiet=True)
    kernel.made.clear()
    cell = Watched(kernel, 'println!("go");\nloop {\n    std::thread::sleep(std::time::Duration::from_millis(5));\n}')
    cell.printed("go")
    as_vs_code(kernel)
    cell.until(lambda: "asked to stop" in cell.stderr and "no call of ia2 is running" in cell.stderr)
    told = time.monotonic()
    cell.until(lambda: time.monotonic() > told + 1)
    assert "idle" not in cell.states and "all variables are gone" in cell.stderr, (cell.states, cell.stderr)
    as_jupyter_client(kernel)
    reply = cell.end()
    assert reply["status"] == "error" and "all variables are gone" in reply["evalue"] and "from the first one on" in reply["evalue"], reply
    result = kernel.run("kept", fails=True)
    assert "not found in this scope" in result.error, result.error
    kernel.run(READY, quiet=True)
    nothing_is_lost(kernel, kernel.child())


TESTS = [
    an_interrupt_of_nothing_is_nothing,
    a_press_is_one_however_it_comes,
    what_waits_behind_an_interrupted_cell_does_not_run,
    a_hundred_interrupts_lose_nothing,
    an_endless_loop_is_told_and_then_ended,
]
