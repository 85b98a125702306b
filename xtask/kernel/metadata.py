"""`cargo metadata` for the rust-analyzer inside the notebook kernel, without the crates that it need not know.

    metadata.py CARGO SLOT ARGUMENT ..

rust-analyzer infers the types of a cell's variables. For that it reads all that the metadata names: 395 packages of 162 MB, 20 s of processor
time and 2.2 GB. But types come from signatures, and what the library's signatures name lies in a few crates; the bodies behind them
it never infers. So three kinds of crates are left out: those that cargo names but does not build (optional ones behind `crate?/feature`, which the
resolver behind this command takes for wanted), procedural macros with all that only they need (the kernel runs none), and what the
library and its public crates use for themselves. What a notebook adds with `:dep` stays whole.

The answer is kept in SLOT/metadata.json, for the time when the same is asked again.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

# The crates whose items stand in the library's signatures.
LIBRARY = {"tch", "polars", "tokenizers", "plotters"}
# The crates whose items stand in the signatures of those, besides polars' own (polars-core and so on).
VOCABULARY = {"ahash", "bytemuck", "chrono", "compact_str", "either", "half", "hashbrown", "indexmap", "num-traits", "plotters-backend"}


def of_library(name: str) -> bool:
    return name in LIBRARY or name.startswith("polars-")


def is_needed(user: str, used: str, added: set) -> bool:
    """Whether rust-analyzer should know that the package `user` depends on `used`; `added` are those that the cells name themselves."""
    if user in added:
        return True
    if user == "ia2":
        return used in LIBRARY
    if of_library(user):
        return used.startswith("polars-") or used in VOCABULARY
    # The few words of others' are known by themselves.
    return user not in VOCABULARY


def trimmed(metadata: dict, built: set) -> dict:
    """`metadata` with the packages of `built`, pairs of name and version, that are needed, and without edges to others."""
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

    cells = [node for name, node in nodes.items() if packages[name]["name"] == "ctx"]
    added = {packages[dependency["pkg"]]["name"] for node in cells for dependency in node["deps"]} - {"ia2"}

    def is_kept(user, dependency):
        package = packages[dependency["pkg"]]
        normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
        macro = any("proc-macro" in target["kind"] for target in package["targets"])
        known = (package["name"], package["version"]) in built
        return normal and known and not macro and is_needed(packages[user]["name"], package["name"], added)

    reached, waiting = set(), list(metadata["workspace_members"])
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        node = nodes[name]
        node["deps"] = [dependency for dependency in node["deps"] if is_kept(name, dependency)]
        node["dependencies"] = [dependency["pkg"] for dependency in node["deps"]]
        waiting += node["dependencies"]
    metadata["packages"] = [package for name, package in packages.items() if name in reached]
    metadata["resolve"]["nodes"] = [node for name, node in nodes.items() if name in reached]
    return metadata


def what_is_built(cargo: str, manifest: Path, platform: str) -> set:
    command = [cargo, "tree", "--manifest-path", manifest, "--workspace", "--target", platform, "--edges", "normal,no-proc-macro"]
    command += ["--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.split("\n")
    return {(words[0], words[1].removeprefix("v")) for words in map(str.split, lines) if len(words) > 1}


def digest(slot: Path, arguments: list) -> str:
    """Of all that the answer depends on; empty where it is not to be kept, because a dependency's own manifest may change."""
    cells = (slot / "ctx/Cargo.toml").read_text()
    added = [line for line in cells.partition("[dependencies]")[2].split("\n") if not re.match(r"ia2\s*=", line)]
    if re.search(r"\bpath\s*=", "\n".join(added)):
        return ""
    files = [slot / name for name in ("Cargo.toml", "Cargo.lock", "anchor/Cargo.toml", "ctx/Cargo.toml")]
    files += [Path(__file__), Path(__file__).parents[2] / "Cargo.toml"]
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return hashlib.sha256("\n".join(sums + arguments).encode()).hexdigest()


def main() -> int:
    cargo, slot, arguments = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    kept = slot / "metadata.json"
    try:
        key = digest(slot, arguments)
        if key and kept.exists():
            with kept.open() as file:
                if file.readline().strip() == key:
                    sys.stdout.write(file.read())
                    return 0
    except OSError:
        key = ""
    done = subprocess.run([cargo] + arguments, stdout=subprocess.PIPE)
    if done.returncode:
        return done.returncode
    answer = done.stdout.decode()
    try:
        built = what_is_built(cargo, slot / "Cargo.toml", arguments[arguments.index("--filter-platform") + 1])
        answer = json.dumps(trimmed(json.loads(answer), built))
        if key:
            partial = slot / f"metadata.{os.getpid()}.partial"
            partial.write_text(f"{key}\n{answer}")
            partial.replace(kept)
    except (OSError, ValueError, LookupError, subprocess.CalledProcessError):
        # Everything is as right as a part of it, only slower.
        pass
    sys.stdout.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
