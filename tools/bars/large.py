"""Pictures larger than a window: memory stays flat, values stay the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from bars.common import Figure, child, photo_paths, pixels_of

WIDTH, HEIGHT = 6000, 4000

#: Arguments: action, source, target, window in latents. Prints peak memory in GB.
CODE = """
import sys, json, resource, hashlib
import numpy as np
import PIL.Image
PIL.Image.MAX_IMAGE_PIXELS = None
import robuststream as rs, robuststream.picture.windows
action, source, target, window = sys.argv[1:]
robuststream.picture.windows.WINDOW = int(window)
facts = {}
if action == "encode":
    data = rs.encode(source)
    open(target, "wb").write(data)
else:
    out = rs.decode(source)
    facts["latents"] = hashlib.sha256(out.latents.numpy().tobytes()).hexdigest()
    facts["exact"] = bool(out.report.exact)
    np.save(target, np.asarray(out.image))
facts["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps(facts))
"""


def large(photos: Path) -> list[Figure]:
    """A 24-megapixel picture, laid out of the photographs, encoded and decoded in windows and in one piece."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _mosaic(photo_paths(photos)).save(folder / "large.png", compress_level=1)

        def run(action: str, source: str, target: str, window: int) -> dict[str, object]:
            return json.loads(child(CODE, action, str(folder / source), str(folder / target), str(window)).stdout)

        encoded = run("encode", "large.png", "windows.robs", 64)
        decoded = run("decode", "windows.robs", "windows.npy", 64)
        whole = run("decode", "windows.robs", "whole.npy", 100000)
        run("encode", "large.png", "whole.robs", 100000)
        run("decode", "whole.robs", "other.npy", 64)
        difference = np.abs(np.load(folder / "windows.npy").astype(int) - np.load(folder / "whole.npy")).max()
        bytes_same = (folder / "windows.robs").read_bytes() == (folder / "whole.robs").read_bytes()
    same = decoded["latents"] == whole["latents"] and decoded["exact"] is True
    return [
        Figure("peak memory, encode", f"{encoded['peak']:.2f} GB", "< 4 GB", encoded["peak"] < 4),
        Figure("peak memory, decode", f"{decoded['peak']:.2f} GB", "< 4 GB", decoded["peak"] < 4),
        Figure("peak memory, decode without windows", f"{whole['peak']:.2f} GB"),
        Figure("decoded latents as without windows", "identical" if same else "differ", "identical", same),
        Figure("pixels against those without windows", f"within {difference}/255", "<= 1/255", bool(difference <= 1)),
        Figure(
            "encoded with and without windows", "the same bytes" if bytes_same else "other bytes (float32 analysis)"
        ),
    ]


def _mosaic(paths: list[Path]) -> Image.Image:
    canvas = Image.new("RGB", (WIDTH, HEIGHT))
    pictures = [Image.fromarray(pixels_of(path)) for path in paths]
    wide = [picture for picture in pictures if picture.width >= picture.height] or pictures
    width, height = wide[0].size
    for number, (top, left) in enumerate((t, x) for t in range(0, HEIGHT, height) for x in range(0, WIDTH, width)):
        canvas.paste(wide[number % len(wide)], (left, top))
    return canvas
