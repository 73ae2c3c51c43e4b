"""What a user of JAX does with exported programs, in a process that cannot import xkd_jax.

    python in_jax_alone.py FOLDER RECORDINGS.npz

It runs the code of the folder's README and writes the features to answers.npz. test_stablehlo.py
runs it.
"""

import importlib.util
import os
import pathlib
import re
import sys

import numpy as np


def main():
    assert not any(importlib.util.find_spec(name) for name in ("xkd_jax", "input_pipeline"))
    folder, recordings = (pathlib.Path(path).absolute() for path in sys.argv[1:])
    os.chdir(folder)
    [code] = re.findall(r"^```python\n(.*?)^```", (folder / "README.md").read_text(), re.M | re.S)
    names = dict(np.load(recordings))
    found = {}
    shared, *parts = re.split(r"^(?=# )", code, flags=re.M)  # the imports; video; audio
    exec(shared, names)
    for part, m in zip(parts, ("video", "audio"), strict=True):
        exec(part, names)
        found[m] = names["features"]
        found[f"{m}_platforms"] = names["program"].platforms
    np.savez(recordings.with_name("answers.npz"), **found)


if __name__ == "__main__":
    main()
