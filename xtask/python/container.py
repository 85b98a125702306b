"""Runs the steps of the Dockerfile without Docker: in a folder that debootstrap fills with the same Debian, as root.

    python3 xtask/python/container.py [FOLDER] [--registry ~/.cargo/registry]    (--check: read the files alone)

Every instruction is taken from the Dockerfile itself, and one that is not known here is an error. The official image `rust:VERSION-slim-SUITE`
is Debian's SUITE with a C compiler and the toolchain VERSION; its stand-in takes the toolchain of this machine, which must be that version. So
this does not try the image's own registry, nor `rustup component add` (a copy of the toolchain has the components or the step fails).
A `.devcontainer/devcontainer.json` next to it is read as well: its stage must exist, and its command must be made of steps that the Dockerfile has.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What `rust:..-slim` adds to Debian, and where it keeps Rust.
PACKAGES = "ca-certificates,gcc,libc6-dev"
BASE = {
    "RUSTUP_HOME": "/usr/local/rustup",
    "CARGO_HOME": "/usr/local/cargo",
    "PATH": "/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
KNOWN = {"FROM", "RUN", "ENV", "USER", "WORKDIR", "COPY", "EXPOSE", "CMD"}


def instructions(text: str) -> list[tuple[str, str]]:
    """`(word, rest)` of each instruction, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = [line.split(None, 1) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]
    for word, _ in found:
        if word not in KNOWN:
            sys.exit(f"Dockerfile: `{word}` is not known to {Path(__file__).name}: write here what it does")
    return [(word, rest.strip()) for word, rest in found]


def check_devcontainer(steps: list[tuple[str, str]]):
    text = (ROOT / ".devcontainer/devcontainer.json").read_text()
    container = json.loads("\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//")))
    stages = [rest.split(" AS ")[-1] for word, rest in steps if word == "FROM"]
    users = [rest for word, rest in steps if word == "USER"]
    runs = [rest for word, rest in steps if word == "RUN"]
    assert container["build"]["target"] in stages, stages
    assert container["remoteUser"] in users, users
    for step in container["postCreateCommand"].split(" && "):
        assert step in runs, f"devcontainer.json: `{step}` is no step of the Dockerfile"


def base(folder: Path, image: str, registry: Path | None):
    """What the image in `FROM` has."""
    version, suite = re.fullmatch(r"rust:([0-9.]+)-slim-(\w+)", image).groups()
    sysroot = Path(subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip())
    here = subprocess.check_output([sysroot / "bin/rustc", "--version"], text=True).split()[1]
    if here != version:
        sys.exit(f"Dockerfile: `{image}` has Rust {version}, and this machine {here}: set one of the two to the other's")
    if not (folder / "usr/bin/gcc").exists():
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, folder], check=True)
    rust, cargo = (folder / BASE[name].lstrip("/") for name in ("RUSTUP_HOME", "CARGO_HOME"))
    if not rust.exists():
        shutil.copytree(sysroot, rust / f"toolchains/{version}-x86_64-unknown-linux-gnu", symlinks=True)
        (rust / "settings.toml").write_text(f'version = "12"\ndefault_toolchain = "{version}-x86_64-unknown-linux-gnu"\n')
        (cargo / "bin").mkdir(parents=True)
        rustup = Path(shutil.which("rustup")).resolve()
        shutil.copy2(rustup, cargo / "bin/rustup")
        for program in ("cargo", "rustc", "rustdoc", "rustfmt", "cargo-fmt", "cargo-clippy", "clippy-driver"):
            (cargo / "bin" / program).symlink_to("rustup")
        if registry:
            for part in ("cache", "index"):
                shutil.copytree(registry / part, cargo / "registry" / part, symlinks=True)
        subprocess.run(["chmod", "-R", "a+w", rust, cargo], check=True)
    # The network of this machine, with the certificates that it trusts.
    for name in ("/etc/resolv.conf", CERTIFICATES):
        shutil.copy(name, folder / name.lstrip("/"))
    for name in ("proc", "dev"):
        if not os.path.ismount(folder / name):
            subprocess.run(["mount", "--rbind", f"/{name}", folder / name], check=True)


def copy(destination: Path, owner: str, folder: Path):
    """`COPY . .`: what git has or would take."""
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).exists():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name)
    subprocess.run(["chroot", folder, "chown", "-R", owner, "/" + str(destination.relative_to(folder))], check=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", nargs="?", type=Path, default=ROOT / "target/container")
    options.add_argument("--registry", type=Path, help="a cargo registry whose downloads are taken")
    options.add_argument("--check", action="store_true", help="read the files alone")
    options = options.parse_args()
    folder = options.folder.absolute()
    steps = instructions((ROOT / "Dockerfile").read_text())
    check_devcontainer(steps)
    if options.check:
        return
    if os.geteuid() != 0:
        sys.exit("debootstrap and chroot need root")
    # Mounts of its own, which end with it.
    if "CONTAINER_MOUNTS" not in os.environ:
        os.execvpe("unshare", ["unshare", "--mount", sys.executable, *sys.argv], {**os.environ, "CONTAINER_MOUNTS": "own"})
    environment, user, place = dict(BASE), "root", "/"
    trust = {name: CERTIFICATES for name in ("SSL_CERT_FILE", "PIP_CERT", "CARGO_HTTP_CAINFO")}
    for word, rest in steps:
        print(f"== {word} {rest}", flush=True)
        match word:
            case "FROM" if " AS " in rest and rest.split(" AS ")[0].startswith("rust:"):
                base(folder, rest.split(" AS ")[0], options.registry)
            case "ENV":
                environment.update([rest.split("=", 1)])
            case "USER":
                user = rest
            case "WORKDIR":
                place = rest
                (folder / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                owner = re.fullmatch(r"--chown=(\S+) \. \.", rest).group(1)
                copy(folder / place.lstrip("/"), owner, folder)
            case "RUN":
                home = "/root" if user == "root" else f"/home/{user}"
                known = {**environment, **trust, "HOME": home, "LANG": "C.UTF-8"}
                script = f"cd {place} && {rest}"
                subprocess.run(["chroot", f"--userspec={user}", folder, "/bin/sh", "-c", script], env=known, check=True, stdin=subprocess.DEVNULL)
    print("every step passed")


if __name__ == "__main__":
    main()
