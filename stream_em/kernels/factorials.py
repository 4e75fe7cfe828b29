"""Logarithms of factorials, also of numbers that are not whole, written so that the compiler vectorises them."""

from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import log_in_place

HALF_LOG_2_PI = 0.9189385332046727
ENOUGH = 8.0


@kernel
def log_factorial_in_place(values, product, scratch):
    """Replace (n,) values from 0 to 1e100 by log Gamma(1 + value), absolute error 1e-12 plus 4 units in the last place.

    `product` and `scratch` are (n,) and are overwritten. Stirling's series from 8 on; what is smaller is brought there
    by Gamma(z) = Gamma(z + 7) / (z (z + 1) ... (z + 6)).
    """
    for i in range(len(values)):
        z = values[i] + 1.0
        small = z < ENOUGH
        x = z if small else 1.0
        p = x * (x + 1.0) * (x + 2.0) * (x + 3.0) * (x + 4.0) * (x + 5.0) * (x + 6.0)
        product[i] = p if small else 1.0
        values[i] = z + 7.0 if small else z
    log_in_place(product, scratch)
    for i in range(len(values)):
        z = values[i]
        r = 1.0 / z
        w = r * r
        tail = r * (1.0 / 12.0 - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w * (1.0 / 1680.0 - w * (1.0 / 1188.0)))))
        product[i] = tail + HALF_LOG_2_PI - z - product[i]
    logs = values.copy()
    log_in_place(logs, scratch)
    for i in range(len(values)):
        values[i] = (values[i] - 0.5) * logs[i] + product[i]
