"""The picture of the README, from the published results.

``python -m benchmarks.difference`` reads the table of goals in the page on performance
and writes docs/images/difference.svg: what one process serves, beside the best of the
other servers, in the work that a Django project does most.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "performance.md"
PICTURE = ROOT / "docs" / "images" / "difference.svg"

# The rows of the table, and how they are called where there is little room.
ROWS = {
    "Django: Sync view": "Django view",
    "Django: Async view": "Django async view",
    "Django: Sync view with a query": "Django view with a query",
    "WebSocket: Echo of 64 bytes by a Channels consumer": "Channels consumer, echo",
    "HTTP/1.1: Hello, 32 connections kept alive": "Plain ASGI response",
}
WIDTH, ROW, LEFT = 720, 34, 210


def read_ratios(page: str) -> dict[str, float]:
    """Return the ratio of each row: djserve's rate to that of the best other server."""
    found = {}
    for name in ROWS:
        row = re.search(
            rf"^\| {re.escape(name)} \| [^|]*best of the four \| ([\d.]+) x \|",
            page,
            re.MULTILINE,
        )
        if row is not None:
            found[name] = float(row[1])
    return found


def render(ratios: dict[str, float]) -> str:
    """Return the picture as SVG, readable on light and on dark pages."""
    height = 66 + ROW * len(ratios)
    scale = (WIDTH - LEFT - 90) / max(ratios.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" '
        'font-size="15" role="img">',
        "<title>Requests or messages a second, as a multiple of the best of Daphne, "
        "Uvicorn, Hypercorn and Granian</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for index, (name, ratio) in enumerate(ratios.items()):
        y = 20 + ROW * index
        width = ratio * scale
        parts += [
            f'<text x="{LEFT - 12}" y="{y + 16}" text-anchor="end" fill="#222222">'
            f"{escape(ROWS[name])}</text>",
            f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="22" rx="3" '
            'fill="#00796b"/>',
            f'<text x="{LEFT + width + 8:.1f}" y="{y + 16}" fill="#222222" '
            f'font-weight="bold">{ratio:.1f} x</text>',
        ]
    x = LEFT + scale
    bottom = 20 + ROW * len(ratios)
    parts += [
        f'<line x1="{x:.1f}" y1="12" x2="{x:.1f}" y2="{bottom}" stroke="#d1495b" '
        'stroke-width="2"/>',
        f'<text x="{x:.1f}" y="{bottom + 20}" fill="#b23a48">'
        "1 x: the best of Daphne, Uvicorn, Hypercorn, Granian</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    PICTURE.write_text(render(read_ratios(PAGE.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
