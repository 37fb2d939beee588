"""Measuring a service as its callers find it: answers a second and latencies, at more and more connections at once.

The successor of the original's capacity evaluation: so many threads that call, from 10 to 50 by 10, or on until an
answer takes too long. The load comes from this one process, which keeps up with about ten thousand answers a second;
it should not share a processor with the server.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import statistics
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click

from mlhost import remote
from mlhost.errors import Invalid, Unavailable
from mlhost.params import jsontext

WARM_SECONDS = 0.3  # of calls that are not counted, at each number of connections
LAST_ANSWER_SECONDS = 60.0  # that the answers which come too late to count may take
BAR = 40  # characters of the longest bar
MAX_CONNECTIONS = 1000
TO_MOST, TO_LATENCY = "10:50:10", f"10:{MAX_CONNECTIONS}:10"  # unless somebody says otherwise
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked over and over: a POST of JSON."""

    url: str
    body: bytes
    token: str = ""
    trust: ssl.SSLContext | None = None  # whom, if it is https

    @classmethod
    def of(cls, url: str, body: bytes, token: str, trust: ssl.SSLContext | None) -> Call:
        """A call, or Invalid if the address is none."""
        try:
            at = urlsplit(url)
            is_sound = at.scheme in ("http", "https") and bool(at.hostname) and at.port != 0 and at.username is None
        except ValueError:  # a port that is none
            is_sound = False
        if not is_sound or not at.path.startswith("/"):
            raise Invalid(f"{url!r} is not the address of a service, such as http://127.0.0.1:12800/api/Iris/1.0.")
        if at.scheme == "https":
            trust = trust or ssl.create_default_context()
        return cls(url, body, token, trust)

    def __bytes__(self) -> bytes:
        at = urlsplit(self.url)
        lines = [f"POST {at.path}{'?' if at.query else ''}{at.query} HTTP/1.1", f"Host: {at.netloc}"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        lines += [f"Authorization: Bearer {self.token}"] if self.token else []
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one number of connections; latencies in milliseconds."""

    connections: int
    rate: float  # answers a second
    p50: float
    p95: float
    p99: float
    failed: int  # calls that were answered by an error, or that the service's code failed at


@dataclass(frozen=True, slots=True)
class Plan:
    """How many connections, step by step: to the most, or until half of the answers take longer than `latency_ms`."""

    first: int = 10
    most: int = 50
    step: int = 10
    latency_ms: float = 0.0  # 0 = whatever it is
    seconds: float = 3.0  # of each step

    @classmethod
    def of(cls, spelled: str | None, latency_ms: float, seconds: float) -> Plan:
        """A plan of FIRST:MOST:STEP, or Invalid; None is the original's, to fifty or to that latency."""
        spelled = spelled or (TO_LATENCY if latency_ms else TO_MOST)
        parts = re.fullmatch(r"(\d+):(\d+):(\d+)", spelled)
        first, most, step = map(int, parts.groups()) if parts else (0, 0, 0)
        if not (1 <= first <= most <= MAX_CONNECTIONS and step >= 1):
            raise Invalid(f"{spelled!r} is not FIRST:MOST:STEP, such as 10:50:10, with {MAX_CONNECTIONS} at most.")
        return cls(first, most, step, latency_ms, seconds)


async def measure(call: Call, plan: Plan) -> AsyncIterator[Step]:
    """One step after the other; Unavailable if the server cannot be reached or goes away."""
    for connections in range(plan.first, plan.most + 1, plan.step):
        step = await _step(call, connections, plan.seconds)
        yield step
        if plan.latency_ms and step.p50 > plan.latency_ms:
            return


async def _step(call: Call, connections: int, seconds: float) -> Step:
    loop, request, at = asyncio.get_running_loop(), bytes(call), urlsplit(call.url)
    callers = [_Caller(request) for _ in range(connections)]
    try:
        for caller in callers:
            await _connect(loop, caller, at, call.trust)
        begins = perf_counter() + WARM_SECONDS
        for caller in callers:
            caller.ask_between(begins, begins + seconds)
        async with asyncio.timeout(WARM_SECONDS + seconds + LAST_ANSWER_SECONDS):
            await asyncio.gather(*(caller.done for caller in callers))
    except TimeoutError:
        raise Unavailable(f"{at.netloc} does not answer.") from None
    except (OSError, EOFError) as fault:
        raise Unavailable(f"{at.netloc} cannot be measured: {fault}") from None
    finally:
        for caller in callers:
            caller.close()
    taken = sorted(each for caller in callers for each in caller.taken)
    if len(taken) < 2:
        raise Unavailable(f"{at.netloc} did not answer within {seconds:g} seconds; measure for longer.")
    cuts = [cut * 1000 for cut in statistics.quantiles(taken, n=100, method="inclusive")]
    failed = sum(caller.failed for caller in callers)
    return Step(connections, len(taken) / seconds, cuts[49], cuts[94], cuts[98], failed)


async def _connect(
    loop: asyncio.AbstractEventLoop, caller: _Caller, at: SplitResult, trust: ssl.SSLContext | None
) -> None:
    port = at.port or (443 if at.scheme == "https" else 80)
    await loop.create_connection(lambda: caller, at.hostname or "", port, ssl=trust)


@dataclass(eq=False)
class _Caller(asyncio.Protocol):
    """One connection that asks again as soon as it is answered; only what is asked and answered in time counts."""

    request: bytes
    begins: float = 0.0  # perf_counter
    ends: float = 0.0
    taken: list[float] = field(default_factory=list)  # seconds
    failed: int = 0
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _transport: asyncio.Transport | None = None
    _came: bytes = b""
    _asked_at: float = 0.0

    def connection_made(self, transport: Any) -> None:
        """Be ready to ask."""
        self._transport = transport

    def ask_between(self, begins: float, ends: float) -> None:
        """Ask from now on; count from `begins` to `ends`."""
        self.begins, self.ends = begins, ends
        if not self.done.done():  # else the connection is lost already
            self._ask()

    def data_received(self, data: bytes) -> None:
        """Take an answer once it is whole."""
        self._came += data
        end = self._came.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(self._came, 0, end)
        if length is None:
            self._refuse("it answers without a Content-Length")
            return
        if len(self._came) < end + int(length[1]):
            return
        now = perf_counter()
        if self._asked_at >= self.begins and now <= self.ends:
            self.taken.append(now - self._asked_at)
            is_good = self._came[9:12] == b"200" and b'"success":false' not in self._came[end : end + 100]
            self.failed += not is_good
        self._came = b""
        if now < self.ends:
            self._ask()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ends the step, unless that was over."""
        if not self.done.done():
            self.done.set_exception(exc or EOFError("the server closed a connection"))

    def _refuse(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(EOFError(why))

    def close(self) -> None:
        """Ask no more."""
        if self._transport is not None:
            self._transport.abort()
        if not self.done.done():
            self.done.cancel()

    def _ask(self) -> None:
        self._asked_at = perf_counter()
        assert self._transport is not None
        self._transport.write(self.request)


# --- telling -------------------------------------------------------------------------------------------------------


def lines(steps: list[Step]) -> Iterator[str]:
    """The steps as a table with bars of the median latency."""
    longest = max(step.p50 for step in steps)
    yield f"{'connections':>11} {'answers/s':>10} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'failed':>7}"
    for step in steps:
        bar = "█" * max(1, round(BAR * step.p50 / longest))
        figures = f"{step.p50:>8.2f} {step.p95:>8.2f} {step.p99:>8.2f} {step.failed:>7}"
        yield f"{step.connections:>11} {step.rate:>10,.0f} {figures}  {bar}"


def records(steps: list[Step]) -> list[dict[str, float]]:
    """The steps as plain data."""
    return [asdict(step) for step in steps]


def draw(steps: list[Step], title: str, file: Path) -> None:
    """Latency and rate over the number of connections as a PNG; Unavailable without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable("A picture asks for matplotlib: pip install 'mlhost[plot]'") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    over = [step.connections for step in steps]
    for name in ("p50", "p95", "p99"):
        axes.plot(over, [getattr(step, name) for step in steps], marker="o", label=name)
    axes.set(title=title, xlabel="connections", ylabel="latency, ms", ylim=(0, None))
    axes.legend(loc="upper left")
    rates = axes.twinx()
    rates.plot(over, [step.rate for step in steps], color="gray", linestyle="--", marker="s")
    rates.set(ylabel="answers a second (dashed)", ylim=(0, None))
    figure.savefig(file, format="png")


# --- the command ---------------------------------------------------------------------------------------------------


@click.command("bench")
@click.argument("url")
@click.option("--inputs", required=True, help="The inputs of each call as JSON, or @FILE.")
@click.option(
    "--connections", metavar="FIRST:MOST:STEP", help=f"How many call; {TO_MOST}, or with --latency {TO_LATENCY}."
)
@click.option("--latency", default=0.0, metavar="MS", help="Go on until half of the answers take longer; 250, say.")
@click.option("--seconds", default=3.0, show_default=True, help="Of each step.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw it, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON instead.")
@click.option("--token", envvar="MLHOST_TOKEN", help="A token that may call it; else you are asked to sign in.")
@click.option("--user", envvar="MLHOST_USER", default="admin", show_default=True, help="Sign in as.")
@click.option("--cacert", type=click.Path(exists=True, dir_okay=False), help="The certificate to trust.")
def command(  # noqa: PLR0913 - one for each option
    *,
    url: str,
    inputs: str,
    connections: str | None,
    latency: float,
    seconds: float,
    png: Path | None,
    as_json: bool,
    token: str | None,
    user: str,
    cacert: str | None,
) -> None:
    """Measure a service: latencies and answers a second at more and more connections at once.

    \b
      mlhost bench http://127.0.0.1:12800/api/Iris/1.0 --inputs '{"flower_data": [5.1, 3.5, 1.4, 0.2]}'
    """
    with remote.errors_in_words():
        plan = Plan.of(connections, latency, seconds)
        call = Call.of(url, _body(inputs), token or "", _trust(cacert))
        password = "" if token else click.prompt(f"Password of {user}", hide_input=True)
        steps = asyncio.run(_follow(call, plan, Asker(user, password), is_quiet=as_json))
        if png is not None:
            draw(steps, url, png)
    if as_json:
        click.echo(json.dumps(records(steps)))
    else:
        click.echo("\n".join(lines(steps)))


@dataclass(frozen=True, slots=True)
class Asker:
    """Who signs in to measure."""

    user: str
    password: str


async def _follow(call: Call, plan: Plan, asker: Asker, *, is_quiet: bool) -> list[Step]:
    steps = []
    async with AsyncExitStack() as stack:
        if not call.token:
            at = urlsplit(call.url)
            signing_in = remote.signed_in(f"{at.scheme}://{at.netloc}", asker.user, asker.password)
            call = replace(call, token=(await stack.enter_async_context(signing_in)).token)
        async for step in measure(call, plan):
            steps.append(step)
            if not is_quiet:
                click.echo(f"{step.connections} connections: {step.p50:.2f} ms, {step.rate:,.0f} a second", err=True)
    return steps


def _body(inputs: str) -> bytes:
    try:
        text = Path(inputs[1:]).read_bytes() if inputs.startswith("@") else inputs.encode()
    except OSError as fault:
        raise Invalid(f"--inputs: {fault}") from None
    jsontext.parse(text)  # Invalid, which says where it fails
    return text


def _trust(cacert: str | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=cacert) if cacert else None
