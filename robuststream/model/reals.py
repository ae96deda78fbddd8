"""Functions of real numbers in whole numbers: the same on every machine (spec/model.md, section 9).

exp, tanh and their like differ between libraries and instruction sets in a float's last bits, and so does what is made
of them. Here a number x stands as floor(x * 2^96), a Python integer: it cannot overflow, and nothing is rounded but
by the shifts and divisions that are written out.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

#: An array of Python's integers; NumPy's types know of no arithmetic with such.
Reals: TypeAlias = Any

BITS = 96
ONE = 1 << BITS
#: Past this the normal distribution has 6e-16 left.
FARTHEST = 8 * ONE
#: 1 / sqrt(2 pi)
_PEAK = 398942280401432677939946059934 * ONE // 10**30
#: After so many terms what is left of each series is below 2^-96.
_EXP_TERMS, _LOG_TERMS, _NORMAL_TERMS = 28, 31, 128


def fixed(x: npt.ArrayLike) -> Reals:
    """From floats, which stand for the numbers that they are."""
    floats = np.asarray(x, np.float64)
    whole = [math.floor(math.ldexp(value, BITS)) for value in floats.flat]
    return np.array(whole, object).reshape(floats.shape)


def nearest_float(x: Reals) -> npt.NDArray[np.float32]:
    return np.array([value / ONE for value in x.flat], np.float64).astype(np.float32).reshape(x.shape)


def product(a: Reals, b: Reals) -> Reals:
    return a * b >> BITS


def quotient(a: Reals, b: Reals) -> Reals:
    return (a << BITS) // b


def decay(x: Reals) -> Reals:
    """e^-x, for x >= 0: a power of two, and the series of e^r for r from 0 to ln 2."""
    halvings = -(-x // LN2)
    rest = halvings * LN2 - x
    total = rest * 0 + ONE
    for k in range(_EXP_TERMS, 0, -1):
        total = ONE + product(rest, total) // k
    return total >> halvings


def log(x: Reals) -> Reals:
    """ln x, for x from 1 to 2: 2 artanh((x - 1) / (x + 1))."""
    share = quotient(x - ONE, x + ONE)
    square = product(share, share)
    total = share * 0
    for k in range(_LOG_TERMS, -1, -1):
        total = product(square, total) + ONE // (2 * k + 1)
    return 2 * product(share, total)


def softplus(x: Reals) -> Reals:
    """ln(1 + e^x)."""
    return np.maximum(x, 0) + log(ONE + decay(np.abs(x)))


def sigmoid(x: Reals) -> Reals:
    """1 / (1 + e^-x)."""
    above = quotient(ONE + x * 0, ONE + decay(np.abs(x)))
    return np.where(x < 0, ONE - above, above)


def tanh(x: Reals) -> Reals:
    left = decay(2 * np.abs(x))
    size = quotient(ONE - left, ONE + left)
    return np.where(x < 0, -size, size)


def normal(t: Reals) -> Reals:
    """The probability of a standard normal number from 0 to t, t >= 0; 8 stands for all that is farther.

    The density at t, times t + t^3 / 3 + t^5 / (3 * 5) + ... (G. Marsaglia, "Evaluating the normal distribution",
    Journal of Statistical Software 11(4), 2004): no term is negative, so nothing cancels.
    """
    t = np.minimum(t, FARTHEST)
    square = product(t, t)
    total = t * 0 + ONE
    for k in range(_NORMAL_TERMS, 0, -1):
        total = ONE + product(square, total) // (2 * k + 1)
    density = product(decay(square // 2), _PEAK)
    return product(density, product(t, total))


LN2 = int(log(np.array([2 * ONE], object))[0])
