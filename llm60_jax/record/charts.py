"""Charts as inline SVG, for pages without network or scripts. Colours are CSS variables, so they follow the page's
light or dark scheme. Pure functions."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26
_POINTS = 400  # of a line, drawn at most
COLOURS = 6  # --c0 to --c5 in STYLE

STYLE = """
:root{--c0:#1f6fb4;--c1:#c8501e;--c2:#2d8a4e;--c3:#8a4fb0;--c4:#a87a00;--c5:#6b7280;--grid:#e3e3e3;--band:#00000009;
--text:#222;--soft:#666;--page:#fff;--card:#f7f7f7;--good:#1d7a3e;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--c0:#6db3f2;--c1:#f0905e;--c2:#6fce92;--c3:#c79be6;--c4:#e0b84a;--c5:#a3aab5;
--grid:#3a3a3a;--band:#ffffff0c;--text:#e2e2e2;--soft:#a0a0a0;--page:#161616;--card:#212121;--good:#6fce92;--bad:#ff8a80}}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font:11px system-ui,sans-serif}
svg .grid{stroke:var(--grid);stroke-width:1}svg .band{fill:var(--band)}
svg polyline{fill:none;stroke-width:1.6;stroke-linejoin:round}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.85rem;color:var(--soft)}
.legend i{display:inline-block;width:1rem;height:.2rem;vertical-align:middle;margin-right:.3rem}
"""


class Line(NamedTuple):
    """A named line; points in the order of x. What is not finite leaves a gap."""

    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = False  # constant from one point to the next


class Band(NamedTuple):
    """A stretch of the x axis with a name, shaded where `shaded`."""

    name: str
    start: float
    stop: float
    shaded: bool


def chart(
    title: str, lines: Sequence[Line], bands: Sequence[Band] = (), *, include: Sequence[float] = (), x_unit: str = ""
) -> str:
    """A chart with axes and a legend; "" where no line has a point.

    Args:
      include: values that the y axis reaches, 0 for one that begins there.
      x_unit: what stands at the end of the x axis.
    """
    drawn = [line._replace(points=_thinned([p for p in line.points if math.isfinite(p[1])])) for line in lines]
    drawn = [line for line in drawn if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points] + [edge for band in bands for edge in (band.start, band.stop)]
    ys = [y for line in drawn for _, y in line.points] + list(include)
    x_ticks, y_ticks = _ticks(min(xs), max(xs), 6), _ticks(min(ys), max(ys), 5)
    left, right = min(xs), max(max(xs), min(xs) + 1e-9)
    low, high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)
    high = high if high > low else low + 1

    def x_of(x: float) -> float:
        return _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for band in bands:
        kind = "band" if band.shaded else "none"
        fill = "" if band.shaded else ' fill="none"'
        parts.append(
            f'<rect class="{kind}"{fill} x="{x_of(band.start):.1f}" y="{_TOP}" '
            f'width="{x_of(band.stop) - x_of(band.start):.1f}" height="{_HEIGHT - _TOP - _BOTTOM}">'
            f"<title>{html.escape(band.name)}</title></rect>"
        )
    for tick in y_ticks:
        y = y_of(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    for number, tick in enumerate(x_ticks):
        if left <= tick <= right:
            unit = f" {html.escape(x_unit)}" if number == len(x_ticks) - 1 and x_unit else ""
            place = f'x="{x_of(tick):.1f}" y="{_HEIGHT - 8}"'
            anchor = "end" if x_of(tick) > _WIDTH - 60 else "middle"
            parts.append(f'<text {place} text-anchor="{anchor}">{short(tick)}{unit}</text>')
    for number, line in enumerate(drawn):
        points = _stairs(line.points) if line.steps else line.points
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
        last = f"{line.name}: {short(line.points[-1][1])} at the end"
        colour = f"var(--c{number % COLOURS})"
        if len(points) == 1:
            x, y = points[0]
            parts.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<polyline points="{path}" stroke="{colour}"><title>{html.escape(last)}</title></polyline>')
    legend = "".join(
        f'<span><i style="background:var(--c{number % COLOURS})"></i>{html.escape(line.name)}</span>'
        for number, line in enumerate(drawn)
    )
    drawing = f'{"".join(parts)}</svg><div class="legend">{legend}</div>'
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{drawing}</figure>"


def short(value: float) -> str:
    """`1.2M`, `30k`, `0.05`, `1e-4`."""
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:.3g}{letter}"
    if size and size < 1e-2:
        return f"{value:.2g}" if size >= 1e-4 and value == round(value, 3) else f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.3g}"


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from below `low` to above `high`."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(1, count - 1)
    unit = 10 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most so many points, each the mean of its neighbours."""
    if len(points) <= _POINTS:
        return points
    size = math.ceil(len(points) / _POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found = [points[0]]
    for x, y in points[1:]:
        found += [(x, found[-1][1]), (x, y)]
    return found
