"""float32 in compiled loops: the exponential function, and the way to 16 bits and back."""

import math

import numba
import numpy as np
import pytest
import torch

from temporal.kernels import _float32
from temporal.kernels._scan import _rows

# As the kernels take them: bfloat16 in unsigned words, float16 in signed ones.
WORDS = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}
every_dtype = pytest.mark.parametrize("dtype", WORDS, ids=["bfloat16", "float16"])


@numba.njit
def exponentials(x, out):
    for i in range(x.size):
        out[i] = _float32.exp(x[i])


@numba.njit
def widened(words, out):
    for i in range(words.size):
        out[i] = _rows.widen(words[i])


@numba.njit
def narrowed(x, out):
    for i in range(x.size):
        out[i] = _rows.narrow(x[i], out[i])


def test_exp_is_good_to_one_unit_in_the_last_place():
    special = [-math.inf, -1e30, 0.0, 1e30, math.inf, math.nan]
    x = np.concatenate([np.linspace(-110, 95, 1_000_001), special]).astype(np.float32)
    out = np.full_like(x, np.nan)
    exponentials(x, out)
    with np.errstate(over="ignore"):
        exact = np.exp(x.astype(np.float64)).astype(np.float32).astype(np.float64)
    assert np.array_equal(out[-6:], np.array([0, 0, 1, np.inf, np.inf, np.nan], np.float32), equal_nan=True)
    normal = np.abs(x) < 87
    assert np.abs(out[normal] / np.exp(x[normal].astype(np.float64)) - 1).max() < 1.2e-7
    tiny = (x <= -87) & (x > -110)
    assert np.abs(out[tiny] - exact[tiny]).max() <= 2 * 2.0**-149  # subnormal spacing
    assert np.isinf(out[(x > 88.73)]).all()


@numba.njit
def logarithms(x, out):
    for i in range(x.size):
        out[i] = _float32.log(x[i])


def test_log_is_good_to_two_units_in_the_last_place():
    special = [-1.0, -math.inf, 0.0, math.inf, math.nan]
    random = np.random.default_rng(0).uniform(-149, 128, 1_000_000)
    x = np.concatenate([2**random, np.linspace(0.5, 2, 100_001), special]).astype(np.float32)
    out = np.full_like(x, np.nan)
    logarithms(x, out)
    assert np.array_equal(out[-5:], np.array([np.nan, np.nan, -np.inf, np.inf, np.nan], np.float32), equal_nan=True)
    x, out = x[:-5], out[:-5]
    x, out = x[x > 0], out[x > 0]
    exact = np.log(x.astype(np.float64))
    assert np.abs(out - exact).max() < 1e-5
    assert (np.abs(out - exact) <= 2 * np.spacing(np.abs(exact).astype(np.float32))).all()


def every_number(dtype) -> torch.Tensor:
    """All 65536 of them: normal, subnormal, both zeros, infinities, and every NaN."""
    return torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)


def to_sixteen_bits(x: torch.Tensor, dtype) -> torch.Tensor:
    words = torch.zeros(x.shape, dtype=WORDS[dtype])
    narrowed(x.numpy(), words.numpy())
    return words.view(dtype)


def assert_same_bits(ours: torch.Tensor, theirs: torch.Tensor):
    """A NaN may be any."""
    assert ours.dtype == theirs.dtype and torch.equal(ours.isnan(), theirs.isnan())
    whole = torch.int32 if ours.dtype == torch.float32 else torch.int16
    number = ~ours.isnan()
    assert torch.equal(ours.view(whole)[number], theirs.view(whole)[number])


@every_dtype
def test_widening_is_exact_for_every_number(dtype):
    numbers, out = every_number(dtype), torch.full((2**16,), -1.0)
    widened(numbers.view(WORDS[dtype]).numpy(), out.numpy())
    assert_same_bits(out, numbers.float())


@every_dtype
def test_narrowing_gives_every_number_back(dtype):
    numbers = every_number(dtype)
    assert_same_bits(to_sixteen_bits(numbers.float(), dtype), numbers)


@every_dtype
def test_narrowing_rounds_to_the_nearest_and_a_tie_to_the_even_one(dtype):
    """Between every number and the next: the middle, and the float32 numbers just beside it, over and under."""
    numbers = every_number(dtype).float()
    finite = numbers[numbers.isfinite()].unique()
    middle = (finite[1:].double() + finite[:-1].double()).div(2).float()  # one more bit: exact in float32
    beside = [torch.nextafter(middle, torch.full_like(middle, to)) for to in (-math.inf, math.inf)]
    largest = finite[-1].double()
    step = largest - finite[-2].double()
    over = [largest + part * step for part in (0.25, 0.499, 0.5, 0.501, 1)]  # from the middle on: infinity
    edge = torch.tensor([float(value) for value in over if value <= torch.finfo(torch.float32).max]).float()
    x = torch.cat([middle, *beside, edge, -edge, torch.tensor([math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45])])
    assert_same_bits(to_sixteen_bits(x, dtype), x.to(dtype))
    even = to_sixteen_bits(middle, dtype).view(torch.int16) & 1
    assert not even[middle.abs() > 0].any()


@every_dtype
def test_a_nan_stays_one(dtype):
    """Also those whose bits a rounding would carry over into infinity or a number."""
    payloads = [1, 0x7FFF, 0x8000, 0xFFFF, 0x3FFFFF, 0x400000, 0x7FFFFF, 0x7F8000]
    bits = torch.tensor([0x7F800000 | payload for payload in payloads] + [-0x800000 | payload for payload in payloads])
    x = bits.to(torch.int32).view(torch.float32)
    assert x.isnan().all() and to_sixteen_bits(x, dtype).isnan().all()


@every_dtype
def test_narrowing_random_bits(dtype):
    bits = torch.randint(-(2**31), 2**31, (200_000,)).to(torch.int32)
    x = bits.view(torch.float32)
    assert_same_bits(to_sixteen_bits(x, dtype), x.to(dtype))
