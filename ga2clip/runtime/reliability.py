"""How far probabilities are from what they say: expected calibration error and Brier score."""

import numpy as np
from numpy.typing import NDArray

BINS = 15


def expected_calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """How far confidence is from accuracy on average: Σ n_b/N · |accuracy_b - confidence_b|, a fraction.

    Args:
        confidence: (N,) the probability of the best class, in 0…1.
        correct: (N,) whether the best class is the true one.

    Returns:
        The error over 15 bins of equal width, (0, 1/15] … (14/15, 1]; NaN without clips. Few clips make it too large:
        200 clips of a perfectly calibrated model have an error of about 0.05.

    Source: Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 2.
    """
    if not len(confidence):
        return float("nan")
    gaps = np.bincount(bins_of(confidence), weights=correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def brier_score(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The Brier score of each clip, 0 (sure and right) to 2 (sure and wrong): Σ_c (p_c - [c is the truth])².

    Args:
        probabilities: (N, C), rows that sum to 1.
        labels: (N,) the true classes.

    Returns:
        (N,); their mean is the score of the model.

    Source: Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return np.asarray(((probabilities - truth) ** 2).sum(axis=1))


def bins_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence; bins contain their upper edge."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
