"""Arithmetic on rows of ``LANES`` frames side by side, in vectors.

They are written out, since LLVM would have to prove for every row that what is written does not overlap what is read.

A real row is LANES floats; a complex one is a row of real parts, then one of imaginary parts. All arrays are flat float32,
all places are counted in floats.
"""

import math
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "add_weighted", "butterfly", "join", "powers", "split", "transpose", "weighted_sum"]

LANES = 16
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDICES = ir.VectorType(ir.IntType(32), LANES)
_SUMS = 4  # of a row, side by side: an addition waits four cycles for the one before
_FUSED = ("contract",)  # a product and a sum may round once


class _Row:
    """A vector in a register, with arithmetic."""

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def __add__(self, other: "_Row") -> "_Row":
        return _Row(self.builder, self.builder.fadd(self.value, other.value, flags=_FUSED))

    def __sub__(self, other: "_Row") -> "_Row":
        return _Row(self.builder, self.builder.fsub(self.value, other.value, flags=_FUSED))

    def __mul__(self, other: "_Row | float") -> "_Row":
        if not isinstance(other, _Row):
            other = _Row(self.builder, ir.Constant(_VECTOR, [float(other)] * LANES))
        return _Row(self.builder, self.builder.fmul(self.value, other.value, flags=_FUSED))

    def __neg__(self) -> "_Row":
        return _Row(self.builder, self.builder.fneg(self.value))

    def times_plus(self, factor: "_Row", term: "_Row") -> "_Row":
        """self * factor + term. Which product is fused is not left to the compiler, so that ``_lone.py`` can follow."""
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        fused = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
        return _Row(self.builder, self.builder.call(fused, [self.value, factor.value, term.value]))

    def root(self) -> "_Row":
        """The square root."""
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        root = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.sqrt.v{LANES}f32")
        return _Row(self.builder, self.builder.call(root, [self.value]))

    def inverse_or_zero(self) -> "_Row":
        """1 / x, and 0 where x is 0."""
        zero, one = (ir.Constant(_VECTOR, [value] * LANES) for value in (0.0, 1.0))
        is_zero = self.builder.fcmp_ordered("==", self.value, zero)
        return _Row(self.builder, self.builder.select(is_zero, zero, self.builder.fdiv(one, self.value)))


class _Complex(NamedTuple):
    re: _Row
    im: _Row

    def plus(self, other: "_Complex") -> "_Complex":
        return _Complex(self.re + other.re, self.im + other.im)

    def minus(self, other: "_Complex") -> "_Complex":
        return _Complex(self.re - other.re, self.im - other.im)

    def minus_i_times(self, other: "_Complex") -> "_Complex":
        return _Complex(self.re + other.im, self.im - other.re)

    def plus_i_times(self, other: "_Complex") -> "_Complex":
        return _Complex(self.re - other.im, self.im + other.re)

    def scaled(self, factor: "float | _Row") -> "_Complex":
        return _Complex(self.re * factor, self.im * factor)

    def times(self, other: "_Complex") -> "_Complex":
        real = self.re.times_plus(other.re, -(self.im * other.im))
        return _Complex(real, self.re.times_plus(other.im, self.im * other.re))

    def conjugate_times(self, other: "_Complex") -> "_Complex":
        """conj(self) times other."""
        return _Complex(self.re * other.re + self.im * other.im, self.re * other.im - self.im * other.re)


class _Place:
    """An array, from which rows are read and into which they are written."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any):
        self.builder, self.data = builder, context.make_array(kind)(context, builder, array).data

    def row(self, at: Any, more: int = 0) -> _Row:
        return _Row(self.builder, self.builder.load(self._address(at, more), align=4))

    def put(self, at: Any, row: _Row, more: int = 0) -> None:
        self.builder.store(row.value, self._address(at, more), align=4)

    def complex(self, at: Any) -> _Complex:
        return _Complex(self.row(at), self.row(at, LANES))

    def put_complex(self, at: Any, value: _Complex, swapped: bool = False) -> None:
        self.put(at, value.im if swapped else value.re)
        self.put(at, value.re if swapped else value.im, LANES)

    def everywhere(self, at: Any, more: int = 0) -> _Row:
        """One number in all lanes."""
        number = self.builder.load(self._element(at, more))
        vector = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        return _Row(self.builder, self.builder.shuffle_vector(vector, undefined, ir.Constant(_INDICES, [0] * LANES)))

    def complex_everywhere(self, at: Any, more: int = 0) -> _Complex:
        return _Complex(self.everywhere(at, more), self.everywhere(at, more + 1))

    def _element(self, at: Any, more: int) -> Any:
        return self.builder.gep(self.data, [self.builder.add(at, ir.Constant(at.type, more))])

    def _address(self, at: Any, more: int) -> Any:
        return self.builder.bitcast(self._element(at, more), _VECTOR.as_pointer())


@intrinsic(prefer_literal=True)
def butterfly(typing_context, source, at, step, target, to, to_step, twiddles, turn, radix, turned):
    """target[j] = w^j sum over k of source[k] exp(-2 pi i j k / radix), for rows j and k at their steps.

    w^1, w^2, ... are the numbers twiddles[turn ..]; 1 unless ``turned``.
    """
    count, turns = radix.literal_value, turned.literal_value
    place = types.intp
    signature = types.void(source, place, place, target, place, place, twiddles, place, radix, turned)

    def generate(context, builder, signature, arguments):
        source, at, step, target, to, to_step, twiddles, turn, *_ = arguments
        kinds = signature.args
        inputs, outputs = (_Place(context, builder, k, a) for k, a in ((kinds[0], source), (kinds[3], target)))
        factors = _Place(context, builder, kinds[6], twiddles)
        values = []
        for _ in range(count):
            values.append(inputs.complex(at))
            at = builder.add(at, step)
        for j, value in enumerate(_BUTTERFLIES[count](*values)):
            if turns and j:
                value = value.times(factors.complex_everywhere(turn, 2 * (j - 1)))
            outputs.put_complex(to, value)
            to = builder.add(to, to_step)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def split(typing_context, source, near, far, target, to_near, to_far, table, turn, power):
    """Bins k and M - k of a real signal's spectrum from those of the complex one that holds two samples a number.

    ``power`` 0 writes the complex rows themselves, 1 and 2 their magnitude to that power, real rows.
    """
    exponent, place = power.literal_value, types.intp
    signature = types.void(source, place, place, target, place, place, table, place, power)

    def generate(context, builder, signature, arguments):
        source, near, far, target, to_near, to_far, table, turn, _ = arguments
        inputs, outputs, factors = _places(context, builder, signature.args, source, target, table)
        one, other = inputs.complex(near).scaled(0.5), inputs.complex(far).scaled(0.5)
        even = _Complex(one.re + other.re, one.im - other.im)
        odd = _Complex(one.re - other.re, one.im + other.im).times(factors.complex_everywhere(turn))
        here, there = even.minus_i_times(odd), even.plus_i_times(odd)  # the latter is the conjugate of bin M - k
        if exponent == 0:
            minus = there.im * -1.0
            outputs.put_complex(to_near, here)
            outputs.put_complex(to_far, _Complex(there.re, minus))
        else:
            outputs.put(to_near, _power(here, exponent))
            outputs.put(to_far, _power(there, exponent))
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def join(typing_context, source, near, far, grads, at_near, at_far, target, table, turn, power):
    """The adjoint of ``split`` with a power, times N: complex rows at near and far, with real and imaginary parts swapped.

    ``source`` holds the spectrum, ``grads`` the gradients of its powers, doubled at bins 0 and M.
    """
    exponent, place = power.literal_value, types.intp
    signature = types.void(source, place, place, grads, place, place, target, table, place, power)

    def generate(context, builder, signature, arguments):
        source, near, far, grads, at_near, at_far, target, table, turn, _ = arguments
        kinds = signature.args
        inputs = _Place(context, builder, kinds[0], source)
        slopes = _Place(context, builder, kinds[3], grads)
        outputs = _Place(context, builder, kinds[6], target)
        factors = _Place(context, builder, kinds[7], table)
        one = _slope(inputs.complex(near), slopes.row(at_near), exponent)
        other = _slope(inputs.complex(far), slopes.row(at_far), exponent)
        total = _Complex(one.re + other.re, one.im - other.im)
        rest = factors.complex_everywhere(turn).conjugate_times(_Complex(one.re - other.re, one.im + other.im))
        here, there = total.plus_i_times(rest), total.minus_i_times(rest)
        outputs.put_complex(near, here, swapped=True)
        outputs.put_complex(far, _Complex(there.re, there.im * -1.0), swapped=True)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def powers(typing_context, source, at, target, to, grads, grad, power):
    """A complex row's magnitude to a power; or where ``grads`` is an array the complex row of its gradient."""
    exponent, place = power.literal_value, types.intp
    signature = types.void(source, place, target, place, grads, place, power)

    def generate(context, builder, signature, arguments):
        source, at, target, to, grads, grad, _ = arguments
        value = _Place(context, builder, signature.args[0], source).complex(at)
        outputs = _Place(context, builder, signature.args[2], target)
        if isinstance(signature.args[4], types.Array):
            slope = _Place(context, builder, signature.args[4], grads).row(grad)
            outputs.put_complex(to, _slope(value, slope * 2.0, exponent))
        else:
            outputs.put(to, _power(value, exponent))
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def transpose(typing_context, source, at, step, target, to, to_step, window, first, when):
    """LANES rows of as many numbers, transposed.

    Row k is multiplied by window[first + k] before (``when`` 1) or afterwards (2).
    """
    moment, place = when.literal_value, types.intp
    signature = types.void(source, place, place, target, place, place, window, place, when)

    def generate(context, builder, signature, arguments):
        source, at, step, target, to, to_step, window, first, _ = arguments
        inputs, outputs, factors = _places(context, builder, signature.args, source, target, window)
        rows = []
        for k in range(LANES):
            row = inputs.row(at)
            rows.append((row * factors.everywhere(first, k)).value if moment == 1 else row.value)
            at = builder.add(at, step)
        distance = 1
        while distance < LANES:
            for k in range(LANES):
                if k & distance == 0:
                    pair = rows[k], rows[k + distance]
                    rows[k], rows[k + distance] = (builder.shuffle_vector(*pair, mask) for mask in _masks(distance))
            distance *= 2
        for k, value in enumerate(rows):
            row = _Row(builder, value)
            outputs.put(to, row * factors.everywhere(first, k) if moment == 2 else row)
            to = builder.add(to, to_step)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def weighted_sum(typing_context, source, at, weights, first, count, target, to):
    """The row target[to] = the sum of ``count`` rows from source[at] on, each times its number of weights[first ..]."""
    place = types.intp
    signature = types.void(source, place, weights, place, place, target, place)

    def generate(context, builder, signature, arguments):
        source, at, weights, first, count, target, to = arguments
        inputs = _Place(context, builder, signature.args[0], source)
        factors = _Place(context, builder, signature.args[2], weights)
        totals = [cgutils.alloca_once(builder, _VECTOR) for _ in range(_SUMS)]
        for total in totals:
            builder.store(ir.Constant(_VECTOR, [0.0] * LANES), total)

        def add(k: Any, total: Any) -> None:
            row = inputs.row(builder.add(at, builder.mul(k, ir.Constant(k.type, LANES))))
            factor = factors.everywhere(builder.add(first, k))
            builder.store(row.times_plus(factor, _Row(builder, builder.load(total))).value, total)

        rounds = builder.sdiv(count, ir.Constant(count.type, _SUMS))
        done = builder.mul(rounds, ir.Constant(count.type, _SUMS))
        with cgutils.for_range(builder, rounds) as loop:
            start = builder.mul(loop.index, ir.Constant(count.type, _SUMS))
            for k, total in enumerate(totals):
                add(builder.add(start, ir.Constant(count.type, k)), total)
        with cgutils.for_range(builder, builder.sub(count, done)) as loop:
            add(builder.add(done, loop.index), totals[0])
        rows = [_Row(builder, builder.load(total)) for total in totals]
        _Place(context, builder, signature.args[5], target).put(to, (rows[0] + rows[1]) + (rows[2] + rows[3]))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_weighted(typing_context, target, to, weights, first, count, source, at):
    """The row source[at], times each of the numbers weights[first ..], is added to ``count`` rows from target[to] on."""
    place = types.intp
    signature = types.void(target, place, weights, place, place, source, place)

    def generate(context, builder, signature, arguments):
        target, to, weights, first, count, source, at = arguments
        outputs = _Place(context, builder, signature.args[0], target)
        factors = _Place(context, builder, signature.args[2], weights)
        row = _Place(context, builder, signature.args[5], source).row(at)
        with cgutils.for_range(builder, count) as loop:
            here = builder.add(to, builder.mul(loop.index, ir.Constant(loop.index.type, LANES)))
            outputs.put(here, outputs.row(here) + row * factors.everywhere(builder.add(first, loop.index)))
        return context.get_dummy_value()

    return signature, generate


def _places(context: Any, builder: Any, kinds: Any, source: Any, target: Any, table: Any) -> Any:
    """Of the arguments that most functions here have."""
    return (_Place(context, builder, kinds[k], array) for k, array in ((0, source), (3, target), (6, table)))


def _power(value: _Complex, exponent: int) -> _Row:
    square = value.re.times_plus(value.re, value.im * value.im)
    return square if exponent == 2 else square.root()


def _slope(value: _Complex, grad: _Row, exponent: int) -> _Complex:
    """Half the gradient of the power, a complex row: 0 where the value is."""
    if exponent == 2:
        return value.scaled(grad)
    return value.scaled(grad * _power(value, 1).inverse_or_zero()).scaled(0.5)


def _masks(distance: int) -> list[Any]:
    """Which elements of two rows make the first and the second, when blocks of ``distance`` change places."""
    low = [lane if lane & distance == 0 else LANES + lane - distance for lane in range(LANES)]
    high = [lane + distance if lane & distance == 0 else LANES + lane for lane in range(LANES)]
    return [ir.Constant(_INDICES, mask) for mask in (low, high)]


def _two(a, b):
    return a.plus(b), a.minus(b)


def _three(a, b, c):
    both, difference = b.plus(c), b.minus(c).scaled(math.sqrt(3) / 2)
    middle = a.minus(both.scaled(0.5))
    return a.plus(both), middle.minus_i_times(difference), middle.plus_i_times(difference)


def _four(a, b, c, d):
    sum_ac, sum_bd, minus_ac, minus_bd = a.plus(c), b.plus(d), a.minus(c), b.minus(d)
    return (
        sum_ac.plus(sum_bd), minus_ac.minus_i_times(minus_bd), sum_ac.minus(sum_bd), minus_ac.plus_i_times(minus_bd)
    )  # fmt: skip


def _five(a, b, c, d, e):
    (cos1, sin1), (cos2, sin2) = ((math.cos(k * 0.4 * math.pi), math.sin(k * 0.4 * math.pi)) for k in (1, 2))
    outer, inner, outer_minus, inner_minus = b.plus(e), c.plus(d), b.minus(e), c.minus(d)
    one = a.plus(outer.scaled(cos1)).plus(inner.scaled(cos2))
    two = a.plus(outer.scaled(cos2)).plus(inner.scaled(cos1))
    turned_one = outer_minus.scaled(sin1).plus(inner_minus.scaled(sin2))
    turned_two = outer_minus.scaled(sin2).minus(inner_minus.scaled(sin1))
    return (
        a.plus(outer).plus(inner), one.minus_i_times(turned_one), two.minus_i_times(turned_two),
        two.plus_i_times(turned_two), one.plus_i_times(turned_one),
    )  # fmt: skip


_BUTTERFLIES: dict[int, Any] = {2: _two, 3: _three, 4: _four, 5: _five}
