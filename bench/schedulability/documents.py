"""Generated parts of documents, between two comments that Markdown does not show."""

from __future__ import annotations

from pathlib import Path


def replace_part(document: str, name: str, text: str) -> str:
    """The document with `text` between ``<!-- NAME -->`` and ``<!-- end of NAME -->``.

    ``ValueError`` when they are not there exactly once, in this order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, found, rest = document.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed or begin in tail or end in head + tail:
        raise ValueError(f"the document needs {begin} and then {end}, once each")
    return f"{head}{begin}\n\n{text}\n\n{end}{tail}"


def write_part(path: Path, name: str, text: str) -> None:
    document = path.read_text(encoding="utf-8")
    path.write_text(replace_part(document, name, text), encoding="utf-8")
