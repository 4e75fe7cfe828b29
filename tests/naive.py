"""Plain NumPy twins of the compiled formulas: obvious, slow, record by record, with missing values."""

import numpy as np


def dense(covariances, covariance_type, K, D):
    """Return (K, D, D) covariances from any covariance type."""
    if covariance_type == "full":
        return covariances
    if covariance_type == "tied":
        return np.array([covariances] * K)
    return np.array([np.eye(D) * c for c in covariances])


def log_density(x, mean, covariance):
    """Return log N(x; mean, covariance) of the observed part of a record."""
    o = ~np.isnan(x)
    if not o.any():
        return 0.0
    difference = x[o] - mean[o]
    sign, log_det = np.linalg.slogdet(covariance[np.ix_(o, o)])
    assert sign > 0
    distance = difference @ np.linalg.solve(covariance[np.ix_(o, o)], difference)
    return -0.5 * (o.sum() * np.log(2 * np.pi) + log_det + distance)


def completed(x, mean, covariance):
    """Return E[x | observed part] (D,) and Var[x | observed part] (D, D); Ghahramani & Jordan 1994."""
    o, m = ~np.isnan(x), np.isnan(x)
    expected, spread = np.where(o, x, mean), np.zeros_like(covariance)
    if m.any() and o.any():
        slope = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
        expected[m] = mean[m] + slope @ (x[o] - mean[o])
        spread[np.ix_(m, m)] = covariance[np.ix_(m, m)] - slope @ covariance[np.ix_(o, m)]
    elif m.any():
        spread = covariance.copy()
    return expected, spread


def responsibilities(weights, log_densities):
    """Return the (K,) posterior of one record and its log-likelihood."""
    joint = np.log(weights) + log_densities
    largest = joint.max()
    total = np.exp(joint - largest).sum()
    return np.exp(joint - largest) / total, largest + np.log(total)


def gaussian_m_step(R, X, means, covariances, covariance_type, prior_records, prior_covariance):
    """Return means and covariances that maximise the expected complete-data log-posterior, given (n, K) weights."""
    K = R.shape[1]
    D = X.shape[1]
    new_means, scatters = np.zeros((K, D)), np.zeros((K, D, D))
    for k in range(K):
        pairs = [completed(x, means[k], covariances[k]) for x in X]
        new_means[k] = sum(r * e for r, (e, _) in zip(R[:, k], pairs, strict=True)) / R[:, k].sum()
        for r, (e, spread) in zip(R[:, k], pairs, strict=True):
            scatters[k] += r * (np.outer(e - new_means[k], e - new_means[k]) + spread)
    N = R.sum(axis=0)
    prior = prior_records * prior_covariance
    if covariance_type == "full":
        return new_means, np.array([(scatters[k] + prior) / (N[k] + prior_records) for k in range(K)])
    if covariance_type == "tied":
        return new_means, (scatters.sum(axis=0) + prior) / (N.sum() + prior_records)
    diagonals = np.array([(np.diag(scatters[k]) + np.diag(prior)) / (N[k] + prior_records) for k in range(K)])
    return new_means, diagonals if covariance_type == "diag" else diagonals.mean(axis=1)


def mixture_em_step(params, X, weights, prior_covariance, model):
    """Return the parameters after one EM iteration of a Gaussian mixture, and the log-likelihoods (n,) before it."""
    K, D = params.means.shape
    covariances = dense(params.covariances, model.covariance_type, K, D)
    R, log_likelihoods = np.zeros((len(X), K)), np.zeros(len(X))
    for i, x in enumerate(X):
        densities = np.array([log_density(x, params.means[k], covariances[k]) for k in range(K)])
        R[i], log_likelihoods[i] = responsibilities(params.weights, densities)
    R *= weights[:, np.newaxis]
    new_weights = (R.sum(axis=0) + model.weight_prior) / (R.sum() + K * model.weight_prior)
    means, new_covariances = gaussian_m_step(
        R, X, params.means, covariances, model.covariance_type, model.covariance_prior, prior_covariance
    )
    return type(params)(new_weights, means, new_covariances), log_likelihoods


def forward_backward(params, densities):
    """Return smoothed states (n, K), summed expected transitions (K, K), log-likelihoods (n,) from densities (n, K)."""
    n, K = densities.shape
    alpha, beta, scale = np.zeros((n, K)), np.ones((n, K)), np.zeros(n)
    for t in range(n):
        predicted = params.initial if t == 0 else alpha[t - 1] @ params.transitions
        scale[t] = predicted @ densities[t]
        alpha[t] = predicted * densities[t] / scale[t]
    transitions = np.zeros((K, K))
    for t in range(n - 2, -1, -1):
        ahead = densities[t + 1] * beta[t + 1] / scale[t + 1]
        beta[t] = params.transitions @ ahead
        transitions += alpha[t][:, np.newaxis] * params.transitions * ahead
    return alpha * beta, transitions, np.log(scale)


def chain_em_step(params, X, weights, prior_covariance, model):
    """Return the parameters after one Baum-Welch iteration, and the predictive log-likelihoods (n,) before it."""
    K, D = params.means.shape
    covariances = dense(params.covariances, model.covariance_type, K, D)
    densities = np.exp([[log_density(x, params.means[k], covariances[k]) for k in range(K)] for x in X])
    states, transitions, log_likelihoods = forward_backward(params, densities)
    transitions = transitions + model.transition_prior
    means, new_covariances = gaussian_m_step(
        states, X, params.means, covariances, model.covariance_type, model.covariance_prior, prior_covariance
    )
    return (
        type(params)(states[0], transitions / transitions.sum(axis=1, keepdims=True), means, new_covariances),
        log_likelihoods,
    )


def surprise(x, mean, covariance):
    """Return how far log N(x) of the observed part lies below its mean, in its standard deviations, if x is from there.

    Its mean is the negative entropy, and its variance half the number of observed values.
    """
    o = ~np.isnan(x)
    if not o.any():
        return 0.0
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance[np.ix_(o, o)])[1]
    return (-entropy - log_density(x, mean, covariance)) / np.sqrt(o.sum() / 2)


def leave_out(surprise, most, share, counts, memory, most_left_out):
    """Return the counts (n,) with 0 for what is too surprising (n,), and the share of such."""
    counts = counts.copy()
    for t, count in enumerate(counts):
        if count > 0:
            outside = surprise[t] > most
            for _ in range(int(count)):
                share += (outside - share) / memory
            if outside and share <= most_left_out:
                counts[t] = 0.0
    return counts, share
