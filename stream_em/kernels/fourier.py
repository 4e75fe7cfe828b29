"""Short-time Fourier transforms of several channels at once, at odd frequencies.

A frame of N real samples becomes N/2 complex numbers X_f = sqrt(2/N) sum_n x_n exp(-2 pi i (f' + 1/2) n / N), f' = 2f.
At frequencies halfway between the usual ones none is real, so the map is a rotation of R^N onto C^(N/2); those above
N/2 are the conjugates of the odd ones below. With c_n = (x_n - i x_{n+N/2}) exp(-pi i n / N) it is one complex
transform of half the length, X = sqrt(2/N) FFT(c). Real and imaginary parts are two arrays, and channels stand beside
each other, so that the loops run along contiguous numbers.
"""

import numpy as np

from stream_em.kernels.dispatch import kernel


@kernel
def fill_tables(window, turn, roots):
    """Write the half-wave sine `window` (N,), exp(-pi i n / N) (2, N/2) and exp(-4 pi i n / N) (2, N/4)."""
    N = len(window)
    for n in range(N):
        window[n] = np.sin(np.pi * (n + 0.5) / N)
    for n in range(N // 2):
        turn[0, n], turn[1, n] = np.cos(np.pi * n / N), -np.sin(np.pi * n / N)
    for n in range(N // 4):
        roots[0, n], roots[1, n] = np.cos(4.0 * np.pi * n / N), -np.sin(4.0 * np.pi * n / N)


@kernel
def fourier(real, imag, other_real, other_imag, roots):
    """Transform the columns of (M, C) complex numbers, M a power of two; return the two arrays that hold the result.

    These are the first two or the other two; all four are overwritten. With real and imaginary part exchanged, before
    and after, it is the inverse times M. Stockham's radix-2 transform, which needs no bit reversal (Cochran et al.,
    What is the fast Fourier transform?, 1967).
    """
    M, C = real.shape
    a, b, c, d = real.reshape(M * C), imag.reshape(M * C), other_real.reshape(M * C), other_imag.reshape(M * C)
    half, stride = M // 2, 1
    while half > 0:
        run, far = stride * C, half * stride * C
        for p in range(half):
            cosine, sine = roots[0, p * stride], roots[1, p * stride]
            source, target = p * run, 2 * p * run
            for q in range(run):
                x, y, u, v = a[source + q], b[source + q], a[source + far + q], b[source + far + q]
                c[target + q] = x + u
                d[target + q] = y + v
                x -= u
                y -= v
                c[target + run + q] = cosine * x - sine * y
                d[target + run + q] = cosine * y + sine * x
        a, b, c, d = c, d, a, b
        half //= 2
        stride *= 2
    return a.reshape(M, C), b.reshape(M, C)


@kernel
def analyse(samples, window, turn, roots, spectrum, scratch):
    """Write the transform (2, C, N/2), real and imaginary part, of windowed `samples` (N, C).

    `scratch` (4, N/2, C) is overwritten.
    """
    N, C = samples.shape
    M, unit = N // 2, np.sqrt(2.0 / N)
    for n in range(M):
        cosine, sine, early, late = unit * turn[0, n], unit * turn[1, n], window[n], window[n + M]
        for c in range(C):
            x, y = early * samples[n, c], -late * samples[n + M, c]
            scratch[0, n, c] = cosine * x - sine * y
            scratch[1, n, c] = cosine * y + sine * x
    real, imag = fourier(scratch[0], scratch[1], scratch[2], scratch[3], roots)
    for c in range(C):
        for f in range(M):
            spectrum[0, c, f] = real[f, c]
            spectrum[1, c, f] = imag[f, c]


@kernel
def add_synthesis(spectrum, window, turn, roots, gain, samples, scratch):
    """Add `gain` times the windowed inverse of a `spectrum` (2, C, N/2) to `samples` (N, C); likewise."""
    N, C = samples.shape
    M, unit = N // 2, gain * np.sqrt(2.0 / N)
    for c in range(C):
        for f in range(M):
            scratch[0, f, c] = spectrum[0, c, f]
            scratch[1, f, c] = spectrum[1, c, f]
    imag, real = fourier(scratch[1], scratch[0], scratch[2], scratch[3], roots)
    for n in range(M):
        cosine, sine, early, late = unit * turn[0, n], unit * turn[1, n], window[n], window[n + M]
        for c in range(C):
            x, y = real[n, c], imag[n, c]
            samples[n, c] += early * (cosine * x + sine * y)
            samples[n + M, c] -= late * (cosine * y - sine * x)
