"""The two pages on which a user signs in for a program: plain forms, no script, nothing kept in the browser's cache.

A form holds the name and password itself, so there is no signed-in browser whose rights another site could borrow. That
the form is ours and not one another site has filled in is seen by a random value, in it and in a cookie.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from html import escape
from urllib.parse import urlsplit

from aiohttp import web

from mlhost.errors import Forbidden

COOKIE = "mlhost_form"
DECISION = """<p><label>Name <input name="username" autocomplete="username" required></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
<p><button name="decision" value="allow">Allow</button>
<button name="decision" value="deny" formnovalidate>Deny</button></p>"""
CODE = """<p><label>Code <input name="user_code" value="{code}" autocomplete="off" required></label></p>"""


def form(
    request: web.Request,
    sentence: str,
    *,
    hidden: Mapping[str, str] | None = None,
    code: str | None = None,
    words: str = "",
    status: int = 200,
) -> web.Response:
    """A page that asks for a decision; `hidden` comes back with it, `words` say what was wrong the last time."""
    ours = secrets.token_urlsafe()
    fields = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">\n'
        for name, value in {**(hidden or {}), "form": ours}.items()
    )
    typed = "" if code is None else CODE.format(code=escape(code))
    told = f"<p role=alert><strong>{escape(words)}</strong></p>" if words else ""
    inside = f"{fields}{typed}{DECISION}"
    body = f"<p>{escape(sentence)}</p>\n{told}\n<form method=post action={request.path}>\n{inside}\n</form>"
    target = urlsplit((hidden or {}).get("redirect_uri", ""))
    answer = page(body, status, f"{target.scheme}://{target.netloc}" if target.netloc else "")
    answer.set_cookie(COOKIE, ours, path=request.path, httponly=True, samesite="Strict", secure=request.secure)
    return answer


def message(sentence: str, status: int = 200) -> web.Response:
    """A page that says something."""
    return page(f"<p>{escape(sentence)}</p>", status)


def onward(sentence: str, path: str) -> web.Response:
    """A page that says something and leads on to a path of this server.

    To a browser that comes from another site this is not the same as a redirect: it would follow one without the
    cookies that are for this site only (SameSite=Strict).
    """
    answer = page(f'<p>{escape(sentence)} <a href="{escape(path)}">Go on</a></p>', 200)
    answer.headers.update({"Refresh": f"0; url={path}", "Referrer-Policy": "no-referrer"})
    return answer


def page(body: str, status: int, target: str = "") -> web.Response:
    """A page; `target` is where a form's answer may lead, beside this server."""
    html = f"<!doctype html>\n<html lang=en><title>mlhost</title>\n<h1>mlhost</h1>\n{body}\n</html>\n"
    policy = f"default-src 'none'; form-action 'self' {target}; base-uri 'none'; frame-ancestors 'none'"
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",  # with none at all, browsers would not say that our own form is ours
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    return web.Response(text=html, status=status, content_type="text/html", headers=headers)


def check_ours(request: web.Request, parameters: Mapping[str, str]) -> None:
    """Forbidden unless the form is one that this browser got from us."""
    cookie = request.cookies.get(COOKIE, "")
    is_same = hmac.compare_digest(
        cookie.encode("utf-8", "surrogatepass"), parameters.get("form", "").encode("utf-8", "surrogatepass")
    )
    if not cookie or not is_same or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise Forbidden("The form is not one that this server gave to this browser; open the page again.")
