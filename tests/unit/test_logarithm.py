from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.logarithm import ln


@given(st.floats(min_value=5e-324, allow_nan=False, allow_infinity=False))
def test_it_is_the_logarithm_to_the_last_bits(x: float) -> None:
    assert ln(x) == pytest.approx(math.log(x), rel=6e-16, abs=6e-16)


def test_values_are_pinned_bit_by_bit() -> None:
    pinned = {3.0: "0x1.193ea7aad030ap+0", 1e-9: "-0x1.4b927f32bffb8p+4", 1.0000001: "0x1.ad7f2847b6491p-24"}
    assert {x: ln(x).hex() for x in pinned} == pinned


def test_a_product_of_two_is_a_sum_exactly() -> None:
    assert [ln(2.0**power) for power in (-3, 0, 10)] == [-3 * ln(2.0), 0.0, 10 * ln(2.0)]
