"""Files as forms carry them (RFC 7578): the only form the server reads beside JSON and bytes."""

from __future__ import annotations

import secrets
from typing import Any


def form(field: str, name: str, content: bytes, **words: str | None) -> dict[str, Any]:
    """A file called `name`, and fields of text beside it where there are any; as what `Transport.ask` sends."""
    boundary = secrets.token_hex(16)
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "%0D").replace("\n", "%0A")
    parts = [_part(boundary, f'name="{each}"') + text.encode() for each, text in words.items() if text is not None]
    parts.append(_part(boundary, f'name="{field}"; filename="{quoted}"') + content)
    body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
    return {"body": body, "content_type": f"multipart/form-data; boundary={boundary}"}


def _part(boundary: str, disposition: str) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
