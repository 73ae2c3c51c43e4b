"""The page: sections of text, charts, pictures and sounds, put into one file."""

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

_QUALITY = 75  # of WebP
_HIGHEST = 16383  # pixels that it allows


@dataclasses.dataclass
class Section:
    """A part of the page and what goes into files beside it.

    Attributes:
        name: Of its anchor and of its numbers in report.json.
        title: For people.
        parts: HTML, in order.
        charts: By name; `chart` shows one.
        pictures: (H, W, 3) uint8 by file name, to be written as PNG.
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
        """Keeps a chart for the script and as a picture; returns the HTML that shows it."""
        key = f"{self.name}_{name}"
        self.charts[key] = chart
        self.pictures[key] = chart.picture()
        return f'<div class="card chart" data-chart="{escape(key)}"></div>'


def escape(text: object) -> str:
    """Text as HTML."""
    return html.escape(str(text))


def grid(*cards: str) -> str:
    """Cards side by side, as many as there is room for."""
    return f'<div class="grid">{"".join(cards)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table, which is scrolled where it does not fit."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    rows = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{rows}</table></div>'


def image(pixels: np.ndarray, text: str, attributes: str = "") -> str:
    """A picture (H, W, 3) uint8, with words for those who do not see it."""
    return f'<img src="{webp(pixels)}" alt="{escape(text)}" {attributes}>'


def audio(data: bytes, text: str) -> str:
    """A sound, of MP3, to be played."""
    source = f"data:audio/mpeg;base64,{base64.b64encode(data).decode()}"
    return f'<audio controls preload="metadata" src="{source}" aria-label="{escape(text)}"></audio>'


def tabs(label: str, contents: Mapping[str, str], first: str) -> str:
    """Several contents, of which buttons show one."""
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


def sprite(key: str, frames: np.ndarray) -> str:
    """Frames (T, H, W, 3) uint8 under one another in one image, for players to show."""
    step = -(-len(frames) * frames.shape[1] // _HIGHEST)
    frames = frames[:, ::step, ::step]
    return f'<img id="{key}" src="{webp(np.concatenate(frames))}" alt="" hidden>'


def player(panels: Mapping[str, str], frames: int, rate: float, small: bool) -> str:
    """Animations side by side.

    Args:
        panels: Keys of sprites by caption.
        frames: Of each.
        rate: Per second.
        small: Whether to show pixels as squares.
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


def webp(pixels: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as a data URI."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def render(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> str:
    """Puts the page together.

    Args:
        title: Plain text, as `subtitle` and `footer`.
        subtitle: Below it.
        sections: In order.
        footer: At the end.
    """
    files = importlib.resources.files("xkd_jax.report")
    read = {name: (files / f"page.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    charts = {key: c.plain() for section in sections for key, c in section.charts.items()}
    # A "</script>" in a file's name must not end the element.
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
