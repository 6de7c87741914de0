"""Whether this machine multiplies integers exactly, which bundles that compute in int8 need.

Rules:
- ONNX Runtime's product of uint8 by int8 goes, on x86 without VNNI, through an instruction that adds two
  products in 16 bits and saturates (VPMADDUBSW). Nothing is said of it: scores would be others, on some
  machines alone. So a small model of the same product is run before such a bundle is loaded, on numbers
  that saturate if any do.
- Where they do, the bundle is refused. ONNX Runtime can be told to take uint8 for the weights, whose product
  is exact; but it is slower than float32, so float32 is what such a machine should get.
- ARM's instructions add in 32 bits; what is asked is the result, never the processor's name.
- Serving has no ``onnx`` package, so the model is a file, ``integers.onnx``, which ``export/int8_graph.py``
  writes and a test compares.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from stream.errors import DependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBE = Path(__file__).with_name("integers.onnx")
"""uint8 ``steps`` (rows, INPUTS), of which ZERO stands for nought, times the weight of ``probe_weight``."""

INPUTS, OUTPUTS, ZERO = 96, 40, 128

ERROR = 3


def probe_weight() -> NDArray[np.int8]:
    """(INPUTS, OUTPUTS): the largest and smallest there are, alike, in turn, in pairs and one by one."""
    row, column = np.arange(INPUTS)[:, None], np.arange(OUTPUTS)
    signs = np.where((row // (1 + column % 8)) % 2 == 0, 1, -1)
    signs = np.where(column % 5 == 0, 1, np.where(column % 5 == 1, -1, signs))
    return (127 * signs).astype(np.int8)


def require_exact() -> None:
    """Nothing, where products of integers are exact.

    Raises:
        DependencyError: they are not.
    """
    if not is_exact():
        raise DependencyError(
            "The bundle computes in int8, and this machine's products of uint8 by int8 saturate (ONNX Runtime"
            f" {onnxruntime.__version__}, a processor without VNNI): its scores would be wrong. Export the "
            "bundle with --compute float32, or run it on a processor with AVX-512 VNNI, AVX-VNNI, or on ARM."
        )


@cache
def is_exact() -> bool:
    """Whether the extreme sums are right on this machine."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERROR
    session = onnxruntime.InferenceSession(str(PROBE), options, providers=["CPUExecutionProvider"])
    steps = np.array([255, 0, 254, 1, 129, 127], np.uint8)
    rows = np.concatenate([np.repeat(steps[:, None], INPUTS, axis=1), np.resize(steps, (5, INPUTS))])
    wanted = (rows.astype(np.int64) - ZERO) @ probe_weight().astype(np.int64)
    # One row goes through other code than many.
    said = [session.run(None, {"steps": some})[0] for some in (rows, rows[:1], rows[1:2])]
    return all(
        np.array_equal(found, right)
        for found, right in zip(said, (wanted, wanted[:1], wanted[1:2]), strict=True)
    )
