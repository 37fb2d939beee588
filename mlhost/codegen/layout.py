"""Python source laid out as `ruff format` (and Black) would: 88 columns, broken at brackets from the outside in.

Only what the templates need: calls and subscripts within each other, statements, docstrings. A statement with a name so
long that no break helps is marked to be left as it is.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 88
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Call:
    """`head(arguments)`; `is_open` puts each argument on a line of its own in any case."""

    head: str
    arguments: Sequence[Expression]
    brackets: str = "()"
    is_open: bool = False

    def flat(self) -> str:
        """All on one line."""
        inside = ", ".join(flat(argument) for argument in self.arguments)
        return f"{self.head}{self.brackets[0]}{inside}{self.brackets[1]}"


Expression = str | Call


def flat(expression: Expression) -> str:
    """An expression on one line."""
    return expression if isinstance(expression, str) else expression.flat()


def lines(expression: Expression, indent: int, after: str = "") -> list[str]:
    """An expression as lines; `after` follows the last and has to fit too."""
    margin = INDENT * indent
    line = f"{margin}{flat(expression)}{after}"
    if isinstance(expression, str) or not expression.arguments or (len(line) <= WIDTH and not _has_open(expression)):
        return [line]
    head = f"{margin}{expression.head}{expression.brackets[0]}"
    tail = f"{margin}{expression.brackets[1]}{after}"
    inside = f"{margin}{INDENT}{', '.join(flat(argument) for argument in expression.arguments)}"
    together = len(inside) <= WIDTH or len(expression.arguments) == 1
    if together and not _has_open(expression) and expression.brackets == "()":
        middle = [inside] if len(inside) <= WIDTH else lines(expression.arguments[0], indent + 1, ",")
        return [head, *middle, tail]
    return [head, *(line for argument in expression.arguments for line in lines(argument, indent + 1, ",")), tail]


def statement(expression: Expression, indent: int, after: str = "") -> list[str]:
    """A statement as lines."""
    return kept(lines(expression, indent, after))


def kept(statement: list[str]) -> list[str]:
    """A statement's lines; marked for formatters where one is too long all the same."""
    if any(len(line) > WIDTH and not re.fullmatch(r'\s*"[^"]*",', line) for line in statement):
        return [*statement[:-1], f"{statement[-1]}  # fmt: skip"]
    return statement


def quoted(text: str) -> str:
    """A string literal, in double quotes unless that needs more escapes."""
    inside = "".join(
        each if each.isprintable() and each != "\\" else each.encode("unicode_escape").decode() for each in text
    )
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + inside.replace(quote, f"\\{quote}") + quote


def docstring(text: str, indent: int) -> list[str]:
    """A docstring: wrapped, cleaned of what would end it or what the document marks up with tags."""
    margin = INDENT * indent
    first, *further = _wrapped(text, WIDTH - len(margin))
    if not further:
        ending = f"{first[:-1]}'" if first.endswith('"') else first
        return [f'{margin}"""{ending}"""']
    return [f'{margin}"""{first}', *(f"{margin}{line}".rstrip() for line in further), f'{margin}"""']


def comment(text: str) -> str:
    """Text on one line, fit for a comment."""
    return " ".join(_clean(text).split())


def _wrapped(text: str, width: int) -> list[str]:
    found: list[str] = []
    for number, line in enumerate(_clean(text).split("\n")):
        further = "  " if re.match(r"\s*[-*] ", line) else ""
        found += textwrap.wrap(
            line.rstrip(),
            width if number else width - 6,  # the quotes, which follow at once where no line does
            subsequent_indent=further,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return [each for number, each in enumerate(found) if each or found[number - 1]]


def _clean(text: str) -> str:
    text = re.sub(r"</?\s*font[^>]*>", "", text).expandtabs(4).replace("\\", "\\\\").replace('"""', "'''")
    text = re.sub(r"[^\S\n]", " ", re.sub(r"\r\n?", "\n", text))
    text = "".join(character for character in text if character == "\n" or character.isprintable())
    text = inspect.cleandoc(text).strip() or "Not described."
    return f"'{text[1:]}" if text.startswith('"') else text


def _has_open(expression: Expression) -> bool:
    return isinstance(expression, Call) and (
        expression.is_open or any(_has_open(argument) for argument in expression.arguments)
    )
