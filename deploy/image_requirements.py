r"""Prints what the image installs beside this package, a requirement a line.

    python deploy/image_requirements.py pyproject.toml
    python deploy/image_requirements.py pyproject.toml gpu,parquet

They are pyproject.toml's own, but for one: without the extra ``gpu`` the package onnxruntime takes the place
of onnxruntime-gpu. It is the same library without CUDA's provider and a sixth of the size (0020). Whoever
installs with pip alone gets onnxruntime-gpu, which runs on both.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    r"""The dependencies of an image.

    Args:
        pyproject: contents of pyproject.toml.
        extras: its optional dependencies that are wanted, too.

    >>> requirements('[project]\ndependencies = ["onnxruntime-gpu>=1.22,<2; x", "numpy>=1"]', [])
    ['onnxruntime>=1.22,<2; x', 'numpy>=1']
    """
    project = tomllib.loads(pyproject)["project"]
    found = [
        *project["dependencies"],
        *(each for extra in extras for each in project["optional-dependencies"][extra]),
    ]
    return (
        found
        if "gpu" in extras
        else [re.sub(r"^onnxruntime-gpu(?=[<>=\[; ])", "onnxruntime", each) for each in found]
    )


if __name__ == "__main__":
    path, *listed = sys.argv[1:]
    wanted = [each for argument in listed for each in argument.split(",") if each]
    print("\n".join(requirements(Path(path).read_text("utf-8"), wanted)))
