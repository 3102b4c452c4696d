"""How figures grow with a size, as a small SVG: both axes logarithmic, a dashed line for what grows just as the size does."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 900, 520
LEFT, TOP, RIGHT, BOTTOM = 70, 24, 330, 48
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
"""Told apart by the colour-blind (Okabe and Ito)."""


def plot(rows: Sequence[Mapping[str, float]], size: str, names: Sequence[str], words: Mapping[str, str]) -> str:
    """Draw `names` of the rows over their `size`; `words` say what each is."""
    sizes = [row[size] for row in rows]
    values = [row[name] for row in rows for name in names]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))

    def across(value: float) -> float:
        span = math.log(max(sizes) / min(sizes)) or 1.0
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(value / min(sizes)) / span

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(value / low) / math.log(high / low)

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = up(10.0**power)
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for value in sizes:
        x = across(value)
        drawn.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{value:,.0f}</text>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    drawn.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(size)}</text>')
    for index, name in enumerate(names):
        colour, y = COLOURS[index % len(COLOURS)], TOP + 14 + 22 * index
        line = " ".join(f"{across(row[size]):.1f},{up(row[name]):.1f}" for row in rows)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        drawn.append(f'<path d="M{WIDTH - RIGHT + 18} {y - 4}h22" stroke="{colour}" stroke-width="2.5"/>')
        drawn.append(f'<text x="{WIDTH - RIGHT + 48}" y="{y}">{escape(words[name])}</text>')
    begin = math.sqrt(low * high) * math.sqrt(min(sizes) / max(sizes))
    end = begin * max(sizes) / min(sizes)
    path = f"M{across(min(sizes)):.1f} {up(begin):.1f}L{across(max(sizes)):.1f} {up(end):.1f}"
    drawn.append(f'<path d="{path}" stroke="#999" stroke-dasharray="6 5" fill="none"/>')
    y = TOP + 14 + 22 * len(names)
    drawn.append(f'<path d="M{WIDTH - RIGHT + 18} {y - 4}h22" stroke="#999" stroke-dasharray="6 5"/>')
    drawn.append(f'<text x="{WIDTH - RIGHT + 48}" y="{y}">linear growth</text></svg>\n')
    return "\n".join(drawn)
