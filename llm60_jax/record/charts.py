"""Charts as inline SVG, for pages without network or scripts. Pure functions.

Colours are CSS variables of machine/templates/style.css, so they follow the page's light or dark scheme. There is no
attribute `style`, so a page may forbid it.
"""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26
_MOST_POINTS = 400  # drawn of one line
COLOURS = 6  # --c0 to --c5 in style.css


class Line(NamedTuple):
    """A named line with its points in the order of x; values that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = False  # constant from one point to the next


class Band(NamedTuple):
    """A named stretch of the x axis."""

    name: str
    start: float
    stop: float
    shaded: bool


def chart(
    title: str, lines: Sequence[Line], bands: Sequence[Band] = (), *, include: Sequence[float] = (), x_unit: str = ""
) -> str:
    """Return a chart with axes and a legend, or "" if no line has a point.

    Args:
      include: values that the y axis must cover, such as 0.
      x_unit: unit at the end of the x axis.
    """
    finite = [line._replace(points=_thinned([p for p in line.points if math.isfinite(p[1])])) for line in lines]
    # A line keeps its colour where another one has no point, so that the charts of a page agree.
    drawn = [(f"c{number % COLOURS}", line) for number, line in enumerate(finite) if line.points]
    if not drawn:
        return ""
    xs = [x for _, line in drawn for x, _ in line.points] + [edge for band in bands for edge in (band.start, band.stop)]
    ys = [y for _, line in drawn for _, y in line.points] + list(include)
    x_ticks, y_ticks = _ticks(min(xs), max(xs), 6), _ticks(min(ys), max(ys), 5)
    left, right = min(xs), max(xs)
    right = right if right > left else left + max(1.0, abs(left))
    low, high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)
    high = high if high > low else low + 1

    def x_of(x: float) -> float:
        return _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    parts += [_shading(band, x_of(band.start), x_of(band.stop)) for band in bands]
    for tick, label in zip(y_ticks, _labels(y_ticks), strict=True):
        y = y_of(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    shown_ticks = [tick for tick in x_ticks if left <= tick <= right]
    for tick in shown_ticks:
        unit = f" {html.escape(x_unit)}" if tick == shown_ticks[-1] and x_unit else ""
        place = f'x="{x_of(tick):.1f}" y="{_HEIGHT - 8}"'
        anchor = "end" if x_of(tick) > _WIDTH - 60 else "middle"
        parts.append(f'<text {place} text-anchor="{anchor}">{short(tick)}{unit}</text>')
    for kind, line in drawn:
        points = _stairs(line.points) if line.steps else line.points
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
        last = f"{line.name}: {short(line.points[-1][1])} at the end"
        colour = f"var(--{kind})"
        if len(points) == 1:
            x, y = points[0]
            parts.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<polyline points="{path}" stroke="{colour}"><title>{html.escape(last)}</title></polyline>')
    legend = "".join(f'<span><i class="{kind}"></i>{html.escape(line.name)}</span>' for kind, line in drawn)
    drawing = f'{"".join(parts)}</svg><div class="legend">{legend}</div>'
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{drawing}</figure>"


def _shading(band: Band, left: float, right: float) -> str:
    """Return the rectangle of a band between two places of the drawing."""
    kind = 'class="band"' if band.shaded else 'class="none" fill="none"'
    size = f'width="{right - left:.1f}" height="{_HEIGHT - _TOP - _BOTTOM}"'
    return f'<rect {kind} x="{left:.1f}" y="{_TOP}" {size}><title>{html.escape(band.name)}</title></rect>'


def _labels(ticks: Sequence[float]) -> list[str]:
    """Return short texts of numbers, longer ones where two would look alike."""
    labels = [short(tick) for tick in ticks]
    return labels if len(set(labels)) == len(labels) else [f"{tick:.6g}" for tick in ticks]


def short(value: float) -> str:
    """Return a number in the form `1.2M`, `30k`, `0.05` or `1e-4`."""
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:.3g}{letter}"
    if size and size < 1e-2:
        return f"{value:.2g}" if size >= 1e-4 and value == round(value, 3) else f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.3g}"


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return round numbers from below `low` to above `high`."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(1, count - 1)
    unit = 10 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most `_MOST_POINTS` points, each the mean of its neighbours."""
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of a line that is constant from one point to the next."""
    corners = [points[0]]
    for x, y in points[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners
