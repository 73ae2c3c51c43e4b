"""The HTML page: sections of text, charts, pictures and sounds in one file."""

import base64
import dataclasses
import html
import importlib.resources
import io
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from xkd_jax.report.charts import Lines, Scatter

_QUALITY = 75  # WebP quality, 0 to 100
_HIGHEST = 16383  # largest height of a WebP image in pixels


@dataclasses.dataclass
class Section:
    """A section of the page, with the pictures and numbers for the files beside it.

    Attributes:
        name: Name of the section's anchor and of its numbers in report.json.
        title: Title shown on the page.
        parts: Pieces of HTML, in order.
        charts: Charts by name; `chart` adds one.
        pictures: (H, W, 3) uint8 pictures by file name without suffix, for PNG files.
        numbers: Plain values for report.json.
    """

    name: str
    title: str
    parts: list[str] = dataclasses.field(default_factory=list)
    charts: dict[str, Lines | Scatter] = dataclasses.field(default_factory=dict)
    pictures: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    numbers: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, *parts: str) -> None:
        """Appends HTML."""
        self.parts += parts

    def say(self, text: str, kind: str = "") -> None:
        """Appends a paragraph of plain text."""
        self.add(f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>")

    def chart(self, name: str, chart: Lines | Scatter) -> str:
        """Adds a chart and its picture; returns the HTML of the chart's place."""
        key = f"{self.name}_{name}"
        self.charts[key] = chart
        self.pictures[key] = chart.picture()
        return f'<div class="card chart" data-chart="{escape(key)}"></div>'


def escape(text: object) -> str:
    """Escapes text for HTML."""
    return html.escape(str(text))


def grid(*cards: str) -> str:
    """Returns HTML of cards side by side, in as many columns as fit."""
    return f'<div class="grid">{"".join(cards)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns HTML of a table that scrolls if it is too wide."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    rows = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{rows}</table></div>'


def image(pixels: np.ndarray, text: str, attributes: str = "") -> str:
    """Returns HTML of a picture (H, W, 3) uint8 with a text alternative."""
    return f'<img src="{webp(pixels)}" alt="{escape(text)}" {attributes}>'


def audio(data: bytes, text: str) -> str:
    """Returns HTML of a player for MP3 data."""
    source = f"data:audio/mpeg;base64,{base64.b64encode(data).decode()}"
    return f'<audio controls preload="metadata" src="{source}" aria-label="{escape(text)}"></audio>'


def tabs(label: str, contents: Mapping[str, str], first: str) -> str:
    """Returns HTML of several contents, one of which is shown; buttons choose which.

    Args:
        label: Text before the buttons.
        contents: HTML by the text of its button.
        first: Button that is pressed at first.
    """
    buttons = "".join(
        f'<button type="button" data-show="{escape(name)}">{escape(name)}</button>'
        for name in contents
    )
    inner = "".join(
        f'<div data-tab="{escape(name)}">{content}</div>' for name, content in contents.items()
    )
    return (
        f'<div class="tabs" data-first="{escape(first)}"><div class="controls">'
        f'<span class="faint">{escape(label)}</span>{buttons}</div>{inner}</div>'
    )


def sprite(key: str, frames: np.ndarray, lossless: bool) -> str:
    """Returns HTML of a hidden image that stacks frames (T, H, W, 3) uint8, for `player`."""
    step = -(-len(frames) * frames.shape[1] // _HIGHEST)
    frames = frames[:, ::step, ::step]
    return f'<img id="{key}" src="{webp(np.concatenate(frames), lossless)}" alt="" hidden>'


def player(panels: Mapping[str, str], frames: int, rate: float, small: bool) -> str:
    """Returns HTML of animations side by side.

    Args:
        panels: Keys of sprites by caption.
        frames: Number of frames of each animation.
        rate: Frames per second.
        small: Whether to enlarge pixels to squares, without interpolation.
    """
    style = ' class="pixelated"' if small else ""
    figures = "".join(
        f'<figure><canvas data-src="{key}"{style} role="img" aria-label="{escape(caption)}">'
        "</canvas>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, key in panels.items()
    )
    return (
        f'<div class="player" data-frames="{frames}" data-rate="{rate:g}"><div class="panels">'
        f'{figures}</div><div class="controls"><button type="button" data-play>▶ play</button>'
        f'<input type="range" min="0" max="{frames - 1}" value="0" aria-label="frame"></div></div>'
    )


def webp(pixels: np.ndarray, lossless: bool = False) -> str:
    """Encodes a picture (H, W, 3) uint8 as a data URI of a WebP image.

    Args:
        pixels: The picture.
        lossless: Whether to keep every pixel, so that colors do not run over sharp edges.
    """
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.save(file, "WEBP", quality=_QUALITY, method=4, lossless=lossless)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def render(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> str:
    """Renders the page.

    Args:
        title: Title, plain text.
        subtitle: Line below the title, plain text.
        sections: Sections in order.
        footer: Line at the end, plain text.

    Returns:
        The HTML of the page.
    """
    files = importlib.resources.files("xkd_jax.report")
    read = {name: (files / f"page.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    charts = {key: c.plain() for section in sections for key, c in section.charts.items()}
    # A "</script>" in a recording's name must not end the script element.
    data = json.dumps(charts, allow_nan=False).replace("<", "\\u003c")
    return string.Template(read["html"]).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        style=read["css"],
        navigation="".join(f'<a href="#{s.name}">{escape(s.title)}</a>' for s in sections),
        sections="\n".join(
            f'<section id="{s.name}"><h2>{escape(s.title)}</h2>{"".join(s.parts)}</section>'
            for s in sections
        ),
        footer=escape(footer),
        charts=data,
        script=read["js"],
    )
