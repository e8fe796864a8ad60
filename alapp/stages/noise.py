"""How much of the gray values of an image is noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def deviation(plane: np.ndarray) -> float:
    """Standard deviation of white noise in `plane` (Y, X), float (Immerkaer 1996, Fast noise variance estimation); 0
    for a side below 3."""
    if min(plane.shape) < 3:
        return 0.0
    differences = ndimage.convolve(plane, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(differences[1:-1, 1:-1]).mean())
