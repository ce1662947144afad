"""HTML builder: every text is escaped unless `tag` made it, so that no user's text can become an element."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_VOID = frozenset({"meta", "link", "br", "input"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str) -> Html:
    """`<name attributes>children</name>`. Attribute names: `class_` is class, `aria_label` is aria-label."""
    rendered = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{rendered}>")
    return Html(f"<{name}{rendered}>{join(children)}</{name}>")


def join(children: Iterable[str], separator: str = "") -> Html:
    """The children joined, plain text escaped."""
    return Html(separator.join(child if isinstance(child, Html) else escape(child) for child in children))


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    words: Sequence[int] = (),
) -> Html:
    """A table that scrolls where the page is too narrow; the first cell of each row is its header.

    Columns in `numbers` are right-aligned, those in `words` are wide enough for a sentence.
    """
    looks = {**dict.fromkeys(numbers, "number"), **dict.fromkeys(words, "words")}

    def cells(values: Sequence[str], scope: str) -> Html:
        made = []
        for column, value in enumerate(values):
            look = {"class_": looks[column]} if column in looks else {}
            heads = scope == "col" or column == 0
            made.append(tag("th", value, scope=scope, **look) if heads else tag("td", value, **look))
        return tag("tr", *made)

    body = tag("tbody", *(cells(row, "row") for row in rows))
    content = tag("table", tag("caption", tag("span", caption)), tag("thead", cells(head, "col")), body)
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)
