"""DataFrames as tables for people, in a notebook."""

import math
import re
from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

SHOWN = 200
"""Rows of a table that a person is shown."""
VERSION = re.compile(r"[0-9a-f]{40,64}")
LONG = re.compile(r"(\S{40})(?=\S)")
"""Beginnings of what has to be broken to fit into a cell."""


def readable(frame: pd.DataFrame, most: int = SHOWN) -> Styler:
    """*frame* as a table for people: long texts wrapped, versions shortened, what is missing left empty, and no more
    than the first *most* rows.

    What models and traces say is shown as it was said: it is no HTML and no mathematics here.
    """
    left_out = len(frame) - most
    caption = "Nothing here yet." if frame.empty else f"{left_out:,} more rows are not shown." if left_out > 0 else ""
    shown = frame.head(most).reset_index(drop=True)
    how: dict[Any, str | Callable[[object], str] | None] = {
        name: real if is_fractional(shown[name]) else told for name in shown.columns
    }
    style = shown.style.format(how).format_index(told, axis="columns").hide(axis="index")
    return look(style.set_caption(caption) if caption else style)


def heat(frame: pd.DataFrame, most: int = SHOWN) -> Styler:
    """A frame of numbers between 0 and 1, each on a ground as dark as it is high; as ``readable``, with its index."""
    style = frame.head(most).style.format(real).format_index(told, axis="columns").format_index(told, axis="index")
    if not frame.empty:
        style = style.background_gradient(cmap="Greens", vmin=0, vmax=1.2, axis=None)
    return look(style.set_caption("Nothing here yet.") if frame.empty else style)


def is_missing(value: object) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def look(style: Styler) -> Styler:
    cells = "text-align: left; vertical-align: top; white-space: pre-wrap; max-width: 26em"
    heads = "text-align: left; white-space: nowrap"
    return style.set_table_attributes('class="tex2jax_ignore mathjax_ignore"').set_table_styles(
        [
            {"selector": "td", "props": cells},
            {"selector": "th", "props": heads},
            {"selector": "caption", "props": "caption-side: bottom; text-align: left"},
        ]
    )


def told(value: object) -> str:
    """A value as it stands in a table."""
    if isinstance(value, list | tuple | set | frozenset) or hasattr(value, "tolist"):
        items = value.tolist() if hasattr(value, "tolist") else value  # type: ignore[attr-defined]
        return ", ".join(map(told, items)) if isinstance(items, list | tuple | set | frozenset) else told(items)
    if is_missing(value) or value is pd.NA:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, datetime):
        return f"{value:%b %d %H:%M:%S}"
    text = str(value)
    return text[:12] if VERSION.fullmatch(text) else escape(LONG.sub("\\1\0", text)).replace("\0", "<wbr>")


def number(value: float) -> str:
    if float(value).is_integer() and (isinstance(value, int) or abs(value) >= 1):
        return f"{value:,.0f}"
    return real(value)


def real(value: Any) -> str:
    """With three decimals, or as many digits as tell something."""
    if is_missing(value):
        return ""
    if value and abs(value) < 0.001:
        return f"{value:.1g}"
    return f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def is_fractional(column: pd.Series) -> bool:
    return column.dtype.kind == "f" and bool((column.dropna() % 1 != 0).any())
