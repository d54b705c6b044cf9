"""The part of TOML that task files and profiles need, with the line of every key.

`[[task]]` tables of texts, numbers and booleans. Python 3.10 has no TOML reader, and later ones do
not tell lines. Everything read here means the same to rtswapd, which reads the same task file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from rtswap.errors import InvalidArgument
from rtswap.offline.text_file import read_lines

Value = str | int | float | bool

_HEADER = re.compile(r"(\[\[?)\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?")
_PAIR = re.compile(r"""([A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*=\s*(.*)""")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9](?:_?[0-9])*)(?:\.[0-9](?:_?[0-9])*)?(?:[eE][+-]?[0-9]+)?")
_MOST_DIGITS = 100
_SURROGATE = re.compile("[\ud800-\udfff]")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class Entry:
    key: str
    value: Value
    where: str  # "FILE:LINE"


@dataclass
class Table:
    name: str
    where: str
    entries: list[Entry] = field(default_factory=list)


def _value(text: str, where: str) -> Value:
    for pattern in (_BASIC, _LITERAL, re.compile("true|false"), _NUMBER):
        match = pattern.match(text)
        if match is None:
            continue
        rest = text[match.end() :].strip()
        if rest and not rest.startswith("#"):
            break
        return _converted(match[0], where)
    raise InvalidArgument(f"{where}: {text!r} is not a text in quotes, a number, true or false.")


def _converted(text: str, where: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("'"):
        return text[1:-1]
    if text.startswith('"'):
        return _unescaped(text, where)
    plain = text.replace("_", "")
    if len(plain) > _MOST_DIGITS:
        raise InvalidArgument(f"{where}: a number of {len(plain)} digits is not read.")
    return float(plain) if re.search("[.eE]", plain) else int(plain)


def _unescaped(text: str, where: str) -> str:
    try:
        value = str(json.loads(text))
    except ValueError:
        raise InvalidArgument(f"{where}: {text} has an escape that TOML lacks.") from None
    if _SURROGATE.search(value):
        raise InvalidArgument(
            f"{where}: {text} has an escape that is half a character. Write the whole character."
        )
    return value


def read_tables(path: Path, *names: str) -> list[Table]:
    """The tables `[[name]]`, for some names, of a file that has nothing else, in their order.

    ``InvalidArgument`` names the line.
    """
    known = " or ".join(f"[[{name}]]" for name in names)
    tables: list[Table] = []
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if header := _HEADER.fullmatch(text):
            if header[1] != "[[" or header[2] not in names or "]]" not in text:
                raise InvalidArgument(f"{where}: write {known}, not {text}.")
            tables.append(Table(header[2], where))
            continue
        pair = _PAIR.fullmatch(text)
        if pair is None:
            raise InvalidArgument(f"{where}: {text!r} is neither {known} nor KEY = VALUE.")
        key = pair[1].strip("\"'")
        if not tables:
            raise InvalidArgument(f'{where}: "{key}" belongs into a {known}.')
        if any(entry.key == key for entry in tables[-1].entries):
            raise InvalidArgument(f'{where}: "{key}" is given twice.')
        tables[-1].entries.append(Entry(key, _value(pair[2], where), where))
    return tables
