"""Puts a libtorch folder together (lib, include) out of downloaded wheels or an installed torch.

    libtorch.py unpack WHEELS FOLDER    the few files a CPU needs, out of the wheels in a folder
    libtorch.py link TORCH FOLDER       links to all of an installed torch and the CUDA libraries next to it
"""

import os
import shutil
import sys
import zipfile
from pathlib import Path

CPU = {"libtorch.so", "libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}


def unpack(wheels: Path, folder: Path) -> None:
    found = set()
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                base = os.path.basename(name)
                if name.startswith("torch/include/") and base:
                    target = folder / name.removeprefix("torch/")
                elif base in CPU and "/lib/" in name:
                    target = folder / "lib" / base
                    found.add(base)
                elif base in ("LICENSE", "NOTICE") and name.startswith("torch-"):
                    target = folder / base
                else:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    if found != CPU:
        sys.exit(f"missing in the wheels: {', '.join(sorted(CPU - found))}")


def link(torch: Path, folder: Path) -> None:
    lib = folder / "lib"
    lib.mkdir(parents=True)
    (folder / "include").symlink_to(torch / "include")
    # Some of torch's libraries look for CUDA's next to themselves, and a link counts as a place of its own: so links to all of them, here.
    for library in [*torch.glob("lib/*.so*"), *torch.parent.glob("nvidia/*/lib/*.so*"), *torch.parent.glob("nvidia/*/lib/*/*.so*")]:
        place = lib / library.name
        if not place.exists() and not place.is_symlink():
            place.symlink_to(library)


def gomp(lib: Path) -> None:
    """The linker wants the plain name; without it, it takes the compiler's, and two OpenMP runtimes share the process."""
    plain = lib / "libgomp.so"
    versioned = sorted(lib.glob("libgomp*.so.*"))
    if versioned and not plain.exists():
        plain.symlink_to(versioned[0].name)


if __name__ == "__main__":
    how, source, folder = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3])
    {"unpack": unpack, "link": link}[how](source, folder)
    gomp(folder / "lib")
