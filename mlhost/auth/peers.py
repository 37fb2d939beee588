"""Other servers that are asked who somebody is: which may be asked in the clear, whose signature they need,
and what this server proves itself with.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

from mlhost.errors import Invalid


def is_this_machine(host: str) -> bool:
    """Whether an address says so by itself; no other name is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def context(key: str, ca_file: str) -> ssl.SSLContext:
    """Trust in the system's authorities, or in those of the file that setting `key` names; Invalid if it has none."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as fault:  # no such file, or no certificate in it
        raise Invalid(f"{key} = {ca_file!r} cannot be read as certificates: {fault}", field=key) from None


def secret(key: str, file: str) -> str:
    """What is in the file that setting `key` names, less its line end; Invalid if nothing is, or no UTF-8 text."""
    try:
        text = Path(file).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as fault:
        raise Invalid(f"{key}: {file} cannot be read: {fault}", field=key) from None
    if not text:
        raise Invalid(f"{key}: {file} is empty.", field=key)
    return text
