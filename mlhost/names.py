"""What may be in a name, and how ids are made.

Every name that comes from outside passes one of the checks here before it reaches a path, a query or a namespace.
"""

from __future__ import annotations

import keyword
import re
import secrets
import string
from uuid import uuid4

from mlhost.errors import Invalid

MAX_NAME_LENGTH = 128  # characters
MAX_FILE_NAME_BYTES = 255  # what common file systems allow
RUNTIME = "Python"  # the only runtime there is here; the original's clients ask for R when they name none
REALTIME = "Realtime"  # what the original calls the runtime of a version that is a model and no code

# A letter or digit first, then also . - _ + ~ @ and blanks: what fits into one URL segment without surprises.
_SERVICE_PART = re.compile(r"\w[\w.+~@ -]*", re.UNICODE)


def new_id() -> str:
    """A random id for a session, snapshot or version (a version 4 UUID, as the original's)."""
    return str(uuid4())


def session_name() -> str:
    """A name for a session that was given none: 15 random letters (contract section 4)."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(15))


def service_name(value: str) -> str:
    """`value` if it can name a service, else Invalid."""
    return _service_part(value, "name")


def service_version(value: str) -> str:
    """`value` if it can be a service's version, else Invalid."""
    return _service_part(value, "version")


def runtime_type(value: str | None) -> str:
    """Invalid unless a request asks for Python; one that names nothing asks for R (contract section 10, no. 19)."""
    if value is None or value.casefold() != RUNTIME.casefold():
        asked = "no runtimeType, which means R" if value is None else f"runtimeType {value!r}"
        told = f'The request has {asked}; this server runs "runtimeType": "Python".'
        if (value or "").casefold() == REALTIME.casefold():
            told = "Realtime services are published and changed at /realtime-services, which takes a model."
        raise Invalid(told, field="runtimeType")
    return RUNTIME


def parameter_name(value: str, field: str) -> str:
    """`value` if it can be a Python variable, else Invalid naming `field`."""
    if not value.isidentifier() or keyword.iskeyword(value):
        raise Invalid(f"{field}: {value!r} is not a Python variable name", field=field)
    if value.startswith("__"):  # __builtins__, __name__: what code could not run without
        raise Invalid(f"{field}: {value!r} is one of Python's own names", field=field)
    return value


def object_name(value: str) -> str:
    """`value` if it can name a workspace object: a Python variable without a leading underscore."""
    if value.startswith("_"):
        raise Invalid(f"objectName: {value!r} starts with an underscore; such names are private", field="objectName")
    return parameter_name(value, "objectName")


def file_name(value: str, field: str = "fileName") -> str:
    """`value` if it names a file directly in the working directory, else Invalid."""
    reason = _file_name_fault(value)
    if reason:
        raise Invalid(f"{field}: {value!r} {reason}", field=field)
    return value


def _file_name_fault(value: str) -> str:
    if value in ("", ".", ".."):
        return "is not a file name"
    if any(sign in value for sign in "/\\\0"):
        return "must be a plain file name without path separators or NUL"
    if not value.isprintable():
        return "holds characters that cannot be printed"
    if len(value.encode("utf-8", "surrogatepass")) > MAX_FILE_NAME_BYTES:
        return f"is longer than {MAX_FILE_NAME_BYTES} bytes"
    return ""


def _service_part(value: str, field: str) -> str:
    if len(value) > MAX_NAME_LENGTH:
        raise Invalid(f"{field}: longer than {MAX_NAME_LENGTH} characters", field=field)
    if not _SERVICE_PART.fullmatch(value):
        raise Invalid(
            f"{field}: {value!r} must start with a letter or digit; then blanks and . - _ + ~ @ may follow too",
            field=field,
        )
    return value
