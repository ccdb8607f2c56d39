"""The text of an entry: fields between tabs, as people and programs exchange rows of tables.

It is made and read at every grant, so it is no JSON. A field that is left out at the end is as good as
``None``, and fields that a reader does not know are passed by: so an entry can gain fields.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\([\\t])")
NOTHING = "\\N"
"""Stands for None where other fields follow."""


def pack(*fields: object) -> str:
    """Return fields as one text. Numbers come back as texts, and what is None at the end does not."""
    last = len(fields)
    while last and fields[last - 1] is None:
        last -= 1
    texts = []
    for field in fields[:last]:
        if field is None:
            texts.append(NOTHING)
        elif isinstance(field, str):
            texts.append(escaped(field) if "\\" in field or "\t" in field else field)
        else:
            texts.append(repr(int(field) if isinstance(field, bool) else field))
    return "\t".join(texts)


def unpack(text: str) -> list[str | None]:
    """Return the fields of a text."""
    fields = text.split("\t")
    return [_plain(field) for field in fields] if "\\" in text else fields  # type: ignore[return-value]


def escaped(text: str) -> str:
    """Return a text that can stand between tabs."""
    if "\\" in text or "\t" in text:
        return text.replace("\\", "\\\\").replace("\t", "\\t")
    return text


def _plain(field: str) -> str | None:
    if field == NOTHING:
        return None
    return _ESCAPE.sub(_meant, field) if "\\" in field else field


def _meant(escape: re.Match[str]) -> str:
    return "\t" if escape[1] == "t" else "\\"
