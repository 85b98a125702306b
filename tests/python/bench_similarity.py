"""The Python side of the case `similarity` of `cargo xtask bench`: one JSON line on stdout.

    python tests/python/bench_similarity.py [--threads 2] [--repeats 1] [--limit LAYERS]

Two captures [500 examples, 36 layers, 2560] of float32 by one formula (the Rust side's, too), and every measure at every layer as numpy, scipy,
scikit-learn and dcor compute it (`golden_evidence.py`). A sample is a layer; `check.value` is the sum of four measures at layer 0.
"""

import argparse
import json
import os
import statistics
import time

parser = argparse.ArgumentParser()
for name, default in (("--threads", 2), ("--repeats", 1), ("--warmup", 0), ("--limit", 36)):
    parser.add_argument(name, type=int, default=default)
parser.add_argument("ignored", nargs="*")  # checkpoint, work and case, which the other scripts are given
ARGS = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(ARGS.threads)

import numpy as np

import golden_evidence

EXAMPLES, HIDDEN = 500, 2560


def memory_mb(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def noise(seed):
    """[example, hidden] in [0, 1): the digits behind a sine."""
    place = np.arange(EXAMPLES * HIDDEN, dtype=np.float64) + seed * 1e7
    wave = np.sin(place * 12.9898) * 43758.5453
    return (wave - np.floor(wave)).reshape(EXAMPLES, HIDDEN)


def layer(index):
    left = noise(2 * index)
    return left.astype(np.float32), (0.5 * left + 0.5 * noise(2 * index + 1)).astype(np.float32)


def main():
    baseline = memory_mb("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    layers = [layer(index) for index in range(ARGS.limit)]
    seconds, check, before = [], None, time.process_time()
    for _ in range(ARGS.repeats):
        start = time.perf_counter()
        values = [golden_evidence.measures(a, b) for a, b in layers]
        seconds.append(time.perf_counter() - start)
        check = sum(values[0][name] for name in ("linear_cka", "svcca", "rsa_pearson", "mutual_neighbours_10"))
    cpu = (time.process_time() - before) / ARGS.repeats
    print(json.dumps(dict(
        case="similarity-python", samples_per_s=ARGS.limit / statistics.median(seconds), samples=ARGS.limit, seconds=seconds, cpu_seconds=cpu,
        peak_mb=round(memory_mb("VmHWM"), 1), baseline_mb=round(baseline, 1), threads=ARGS.threads, batch=1,
        versions=dict(numpy=np.__version__), check=dict(value=check))))


if __name__ == "__main__":
    main()
