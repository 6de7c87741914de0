"""Numbers to eight bits: weights by GPTQ, channels smoothed, a GELU's outputs shifted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.rounding import GELU_LEAST, gptq, nearest, offset_of, output_error, shift_of, smoothing


def layer(seed: int, inputs: int = 40, outputs: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """A weight, and rows whose channels go together and differ in size, as a network's do."""
    chance = np.random.default_rng(seed)
    mixing = chance.normal(size=(inputs, inputs)) * chance.lognormal(0, 1, inputs)
    rows = (chance.normal(size=(300, 12)) @ mixing[:12] + chance.normal(size=(300, inputs)) / 9).astype(
        np.float32
    )
    return chance.normal(size=(inputs, outputs)).astype(np.float32), rows


@pytest.mark.parametrize("seed", range(6))
def test_gptq_moves_the_outputs_less_than_nearest_steps_do(seed: int) -> None:
    weight, rows = layer(seed, inputs=90)  # more than a block of inputs
    hessian = (rows.T @ rows).astype(np.float64)
    ours = output_error(weight, gptq(weight, hessian).weight, hessian)
    theirs = output_error(weight, nearest(weight).weight, hessian)
    assert ours < 0.7 * theirs
    wanted = np.square(rows @ (weight - gptq(weight, hessian).weight)).sum()
    assert ours == pytest.approx(wanted, rel=1e-2)


def test_of_two_equal_inputs_the_second_makes_up_for_the_first() -> None:
    # Scale 1, for 127 is the largest. The two inputs are always alike, so what counts is their weights' sum:
    # 0.4 + 0.4 is nearest to 1 = 0 + 1, where each for itself is nearest to 0.
    weight = np.array([[127.0], [0.4], [0.4]], np.float32)
    hessian = np.array([[10.0, 0, 0], [0, 1, 1], [0, 1, 1]])
    assert nearest(weight).steps.ravel().tolist() == [127, 0, 0]
    assert gptq(weight, hessian).steps.ravel().tolist() == [127, 0, 1]


def test_without_correlation_gptq_is_the_nearest_step() -> None:
    weight, _ = layer(1)
    assert (gptq(weight, np.eye(len(weight))).steps == nearest(weight).steps).all()


def test_inputs_that_are_never_seen_and_columns_of_zeros_round_to_something_finite() -> None:
    weight, rows = layer(2)
    rows[:, 3] = 0
    weight[:, 4] = 0
    rounded = gptq(weight, (rows.T @ rows).astype(np.float64))
    assert (rounded.steps[:, 4] == 0).all()
    np.testing.assert_allclose(rounded.weight[3], weight[3], atol=rounded.scales.max() / 2)


def test_smoothing_is_algebra_and_makes_channels_alike() -> None:
    weight, rows = layer(3)
    largest = np.abs(rows).max(axis=0)
    smooth = smoothing(largest, weight)
    np.testing.assert_allclose(
        (rows / smooth) @ (weight * smooth[:, None]), rows @ weight, rtol=2e-4, atol=2e-4
    )
    after = largest / smooth
    assert after.max() / after.min() < largest.max() / largest.min()
    # At one half, what is left of a channel is as large as its weights are then.
    np.testing.assert_allclose(after, np.abs(weight * smooth[:, None]).max(axis=1), rtol=1e-4)


def test_layers_that_read_the_same_share_one_smoothing() -> None:
    weight, rows = layer(4)
    largest = np.abs(rows).max(axis=0)
    both = smoothing(largest, weight[:, :4], weight[:, 4:])
    assert (both == smoothing(largest, weight)).all()


@settings(max_examples=200)
@given(
    st.lists(st.floats(0, 200, width=32), min_size=1, max_size=20),
    st.floats(0, 200),
)
def test_a_shift_is_a_whole_number_whose_steps_hold_the_row_and_whose_offset_is_everyones(
    largest: list[float], seen: float
) -> None:
    offset = offset_of(seen)
    zeros, scales = shift_of(np.array(largest, np.float32), offset)
    assert (zeros == np.rint(zeros)).all()
    assert ((zeros >= 1) & (zeros <= 255)).all()
    np.testing.assert_allclose(zeros * scales, offset, rtol=1e-6)
    assert offset >= GELU_LEAST
    # Whatever is not beyond what was allowed for has a step.
    top = np.minimum(np.array(largest), 1.25 * seen)
    assert (top / scales + zeros <= 255 + 1e-3).all()
