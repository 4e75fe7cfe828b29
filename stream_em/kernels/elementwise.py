"""Exponential, logarithm and softmax over contiguous float64, written so that the compiler vectorises them.

PyPI's llvmlite has no vector mathematics library, so `np.exp` in a loop costs a call per number. Here: range reduction,
a polynomial, and the exponent written into the bits. Each step is a loop of its own over short rows that stay in the
first-level cache, because two views of one buffer in one loop would keep the compiler from vectorising it.
"""

import numpy as np

from stream_em.kernels.dispatch import kernel

LOG2_E = 1.4426950408889634
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
ROUNDER = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the nearest integer in the low bits
SMALLEST_EXPONENT = -708.0
SQRT_HALF = 0.7071067811865476


@kernel
def exp_in_place(values, scratch):
    """Replace (n,) values in [-inf, 709] by exp(values), relative error below 5e-16; below -708 gives 3.3e-308.

    `scratch` is (n,) and is overwritten.
    """
    for i in range(len(values)):
        x = values[i] if values[i] > SMALLEST_EXPONENT else SMALLEST_EXPONENT
        shifted = x * LOG2_E + ROUNDER
        scratch[i] = shifted
        power = shifted - ROUNDER
        r = (x - power * LN2_HIGH) - power * LN2_LOW
        p = 1.6059043836821613e-10
        p = p * r + 2.08767569878681e-09
        p = p * r + 2.505210838544172e-08
        p = p * r + 2.755731922398589e-07
        p = p * r + 2.7557319223985893e-06
        p = p * r + 2.48015873015873e-05
        p = p * r + 1.984126984126984e-04
        p = p * r + 1.388888888888889e-03
        p = p * r + 8.333333333333333e-03
        p = p * r + 4.1666666666666664e-02
        p = p * r + 1.6666666666666666e-01
        p = p * r + 0.5
        p = p * r + 1.0
        values[i] = p * r + 1.0
    bits = scratch.view(np.int64)
    for i in range(len(bits)):
        bits[i] = (bits[i] + 1023) << 52
    for i in range(len(values)):
        values[i] *= scratch[i]


@kernel
def log_in_place(values, scratch):
    """Replace (n,) normal positive values by log(values), absolute error below 2e-16 plus 2 units in the last place.

    `scratch` is (n,) and is overwritten. Follows the atanh series log m = 2 atanh((m-1)/(m+1)).
    """
    for i in range(len(values)):
        scratch[i] = values[i]
    bits = values.view(np.int64)
    for i in range(len(bits)):
        bits[i] = (bits[i] & 0x000FFFFFFFFFFFFF) | 0x3FE0000000000000
    exponents = scratch.view(np.int64)
    for i in range(len(exponents)):
        exponents[i] = (exponents[i] >> 52) + 0x4338000000000000  # the bits of ROUNDER + exponent
    for i in range(len(values)):
        m = values[i]
        power = scratch[i] - ROUNDER - 1022.0
        small = m < SQRT_HALF
        m = m + m if small else m
        power = power - 1.0 if small else power
        z = (m - 1.0) / (m + 1.0)
        w = z * z
        p = 1.0 / 21.0
        p = p * w + 1.0 / 19.0
        p = p * w + 1.0 / 17.0
        p = p * w + 1.0 / 15.0
        p = p * w + 1.0 / 13.0
        p = p * w + 1.0 / 11.0
        p = p * w + 1.0 / 9.0
        p = p * w + 1.0 / 7.0
        p = p * w + 1.0 / 5.0
        p = p * w + 1.0 / 3.0
        values[i] = power * LN2_HIGH + (power * LN2_LOW + (2.0 * z + 2.0 * z * w * p))


@kernel
def power_in_place(values, exponent, scratch):
    """Replace (n,) normal positive values by values ** exponent, relative error below 1e-13; `scratch` is (n,)."""
    log_in_place(values, scratch)
    for i in range(len(values)):
        values[i] *= exponent
    exp_in_place(values, scratch)


@kernel
def exp_relative_in_place(logs, largest, scratch):
    """Replace (K, n) logarithms by exp(log - largest of the column); `largest` (n,) receives it, `scratch` is (n,)."""
    K, n = logs.shape
    for i in range(n):
        largest[i] = logs[0, i]
    for k in range(1, K):
        row = logs[k]
        for i in range(n):
            largest[i] = row[i] if row[i] > largest[i] else largest[i]
    for k in range(K):
        row = logs[k]
        for i in range(n):
            row[i] -= largest[i]
        exp_in_place(row, scratch)


@kernel
def softmax_in_place(log_joint, offsets, weights, log_normaliser, scratch):
    """Turn (K, n) log-densities into posterior probabilities of each column times its weight (n,).

    `offsets` (K,) are added first; `log_normaliser` (n,) receives log sum_k exp(log_joint[k] + offsets[k]); `scratch`
    is (2, n).
    """
    K, n = log_joint.shape
    largest, work = scratch[0], scratch[1]
    for k in range(K):
        row, offset = log_joint[k], offsets[k]
        for i in range(n):
            row[i] += offset
    exp_relative_in_place(log_joint, largest, work)
    for i in range(n):
        log_normaliser[i] = 0.0
    for k in range(K):
        row = log_joint[k]
        for i in range(n):
            log_normaliser[i] += row[i]
    for i in range(n):
        work[i] = weights[i] / log_normaliser[i]
    for k in range(K):
        row = log_joint[k]
        for i in range(n):
            row[i] *= work[i]
    log_in_place(log_normaliser, work)
    for i in range(n):
        log_normaliser[i] += largest[i]
