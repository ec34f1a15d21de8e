"""What more tokens would bring: a power law through held-out losses, and how sure it is.

A loss falls with the tokens N that a model has seen as floor + scale * N^-exponent (Hestness et al. 2017; Hoffmann et
al. 2022, equation 2, for one size of model). One run hardly determines the three. So no exponent is chosen: for each
one a straight line is fitted and weighted by how well it fits. A forecast averages over all of them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from llm60_jax.errors import InputError

LEAST = 4  # points for three unknown numbers and the size of errors
_MOST = 12  # points of a run; neighbours on one held-out text err alike, so more would count one error twice
_EXPONENTS = np.geomspace(0.03, 1.5, 4_000)
_DRAWS, _ENOUGH = 50_000, 200
_FALLING = 0.1  # least share of draws that fall; half of them do where nothing falls or rises


class Forecast(NamedTuple):
    """What a measurement after a number of tokens would give: the middle, and an interval of 90 % if the law holds."""

    tokens: float
    low: float
    middle: float
    high: float


def forecast(points: Sequence[tuple[float, float]], tokens: Iterable[float]) -> list[Forecast]:
    """Return what is expected after each of the numbers of tokens.

    Before the points are seen, every logarithm of an exponent from 0.03 to 1.5 is as likely, every loss at the last
    point, and every floor above 0. Errors of the points are normal, independent, and of one unknown size.

    Args:
      points: tokens and losses, at least `LEAST` different ones, all positive.

    Raises:
      InputError: the losses do not fall by such a law.
    """
    assert len(points) >= LEAST, len(points)
    tokens_N, losses_N = np.array(points, float).T
    spare = len(points) - 2
    fall_EN = (tokens_N / tokens_N.max()) ** -_EXPONENTS[:, None]
    mean_E = fall_EN.mean(1)
    from_mean_EN = fall_EN - mean_E[:, None]
    square_E = np.square(from_mean_EN).sum(1)
    slope_E = from_mean_EN @ losses_N / square_E
    errors_EN = losses_N - losses_N.mean() - slope_E[:, None] * from_mean_EN
    error_E = np.square(errors_EN).sum(1) + 1e-12 * np.square(losses_N).sum()  # never 0
    logs_E = -spare / 2 * np.log(error_E) - np.log(square_E) / 2

    rng = np.random.default_rng(0)
    weights_E = np.exp(logs_E - logs_E.max())
    drawn_S = rng.choice(len(_EXPONENTS), _DRAWS, p=weights_E / weights_E.sum())
    size_S = np.sqrt(error_E[drawn_S] / rng.chisquare(spare, _DRAWS))
    mean_S = losses_N.mean() + size_S * rng.standard_normal(_DRAWS) / np.sqrt(len(points))
    scale_S = slope_E[drawn_S] + size_S * rng.standard_normal(_DRAWS) / np.sqrt(square_E[drawn_S])
    floor_S, noise_S = mean_S - scale_S * mean_E[drawn_S], size_S * rng.standard_normal(_DRAWS)
    if (scale_S > 0).mean() < _FALLING:
        raise InputError("the losses do not fall, so no law says how they go on")
    holds_S = (floor_S >= 0) & (scale_S > 0)
    if holds_S.sum() < _ENOUGH:
        raise InputError("the losses fall faster than any power of the tokens with a floor above 0")
    floor_S, scale_S, noise_S, exponent_S = (x[holds_S] for x in (floor_S, scale_S, noise_S, _EXPONENTS[drawn_S]))
    forecasts = []
    for count in tokens:
        values_S = floor_S + scale_S * (count / tokens_N.max()) ** -exponent_S + noise_S
        low, middle, high = np.quantile(values_S, (0.05, 0.5, 0.95))
        forecasts.append(Forecast(count, float(low), float(middle), float(high)))
    return forecasts


def spread(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most a dozen of a run's points, about equal ratios of tokens apart, the last one included."""
    wanted = np.geomspace(points[0][0], points[-1][0], _MOST)
    nearest = {min(range(len(points)), key=lambda n: abs(np.log(points[n][0] / count))) for count in wanted}
    return [points[n] for n in sorted(nearest)]
