"""Parameters of a query, read into what they mean; Invalid names the one at fault."""

from __future__ import annotations

from aiohttp import web

from mlhost.errors import Invalid

MAX_INT32 = 2**31 - 1
BOOLEANS = {"true": True, "false": False}


def given(request: web.Request, *names: str) -> tuple[str, str]:
    """Name and value of a parameter, spelled in any case and either way; "" if it is not there."""
    for name, value in request.query.items():
        if name.casefold() in map(str.casefold, names):
            return name, value
    return names[0], ""


def whole_number(given: tuple[str, str], default: int) -> int:
    """A number of 32 bits."""
    name, text = given
    try:
        number = int(text) if text else default
    except ValueError:
        raise Invalid(f"{name}: must be a whole number", field=name) from None
    if number > MAX_INT32:
        raise Invalid(f"{name}: must be {MAX_INT32} or less", field=name)
    return number


def boolean(given: tuple[str, str]) -> bool:
    """True or false; false if it is not there."""
    name, text = given
    if text and text.casefold() not in BOOLEANS:
        raise Invalid(f"{name}: must be true or false", field=name)
    return BOOLEANS.get(text.casefold(), False)
