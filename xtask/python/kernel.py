"""A notebook kernel as tests drive it: cells in, what they showed and printed out."""

import os
import queue
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from jupyter_client.manager import start_new_kernel

ROOT = Path(sys.argv[1]).resolve()
START_TIMEOUT = 600
CELL_TIMEOUT = 300
ANSWER_TIMEOUT = 60  # of completion and inspection
BUILD_TIMEOUT = 3000  # of a cell that may compile most of what the library is made of


class Result:
    """What one cell gave."""

    def __init__(self):
        self.shown, self.stdout, self.stderr, self.error, self.seconds = {}, "", "", None, 0.0
        # The content of Jupyter's reply.
        self.reply = {}
        # When each piece of standard output came, in seconds since the cell's start.
        self.printed = []


class Kernel:
    def __init__(self, configuration: str = ""):
        """Starts one; `configuration` is the evcxr.toml of its folder, in place of ours."""
        # A folder without notebooks: the kernel must know the library wherever it is started.
        self.folder = tempfile.TemporaryDirectory()
        if configuration:
            (Path(self.folder.name) / "evcxr.toml").write_text(configuration)
        began = time.monotonic()
        self.manager, self.client = start_new_kernel(kernel_name="ia2", startup_timeout=START_TIMEOUT, cwd=self.folder.name)
        self.run("1 + 1", quiet=True)
        self.start = time.monotonic() - began
        # Variables that several tests use.
        self.made = set()

    def run(self, code: str, quiet: bool = False, fails: bool = False, timeout: float = CELL_TIMEOUT) -> Result:
        """Runs a cell. With `quiet`, it has to succeed and leave standard error empty; with `fails`, to fail or say something there."""
        result = Result()
        began = time.monotonic()

        def collect(message):
            content = message["content"]
            if message["msg_type"] in ("execute_result", "display_data"):
                result.shown.update(content["data"])
            elif message["msg_type"] == "stream":
                setattr(result, content["name"], getattr(result, content["name"]) + content["text"])
                if content["name"] == "stdout":
                    result.printed.append((time.monotonic() - began, content["text"]))
            elif message["msg_type"] == "error":
                result.error = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]) or content["evalue"])

        result.reply = self.client.execute_interactive(code, output_hook=collect, timeout=timeout)["content"]
        result.seconds = time.monotonic() - began
        # evcxr passes standard error on by itself, sometimes after it has said that the cell is done.
        late = time.monotonic() + (10 if fails else 0.1)
        while time.monotonic() < late:
            try:
                collect(self.client.get_iopub_msg(timeout=0.3 if fails else 0.1))
            except queue.Empty:
                if result.stderr or result.error:
                    break
        if quiet:
            assert not result.error, f"{code}\n{result.error}"
            assert not result.stderr, f"{code}\n{result.stderr}"
        return result

    def complete(self, code: str) -> list[str]:
        """What Tab offers at the `¦` in the code."""
        reply = self.asked(self.client.complete, code)
        return reply["matches"] if reply["status"] == "ok" else [f"no answer: {reply}"]

    def inspect(self, code: str) -> str:
        """What Shift-Tab tells of what is at the `¦` in the code."""
        reply = self.asked(self.client.inspect, code)
        return reply["data"]["text/plain"] if reply.get("found") else f"nothing: {reply}"

    def asked(self, request, code: str) -> dict:
        before, after = code.split("¦")
        return request(before + after, len(before), reply=True, timeout=ANSWER_TIMEOUT)["content"]

    def child(self) -> int:
        """The process that runs the cells and holds the variables."""
        return int(self.run('println!("{}", std::process::id());', quiet=True).stdout)

    def killed_when(self, ready, code: str) -> Result:
        """Runs a cell, and kills the process that runs it, from outside and at once, as soon as `ready()`."""
        child, ended = self.child(), threading.Event()

        def watch():
            while not ended.wait(0.002):
                if ready():
                    os.kill(child, signal.SIGKILL)
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            return self.run(code, fails=True)
        finally:
            ended.set()
            watcher.join()

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.folder.cleanup()
