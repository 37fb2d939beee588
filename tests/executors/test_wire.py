"""Frames between host and worker, consoles, and deaths in words."""

import asyncio
import random
import signal
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlhost.errors import Invalid
from mlhost.executors import channel, console, deaths, replies, wire
from mlhost.runtime.freeze import freeze
from mlhost.runtime.program import execute, score
from mlhost.runtime.workspace import list_objects, ping

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def received(stream: bytes, pieces: random.Random) -> tuple[list[Any], list[str]]:
    """What a protocol hands on when the stream arrives in random pieces."""
    documents: list[Any] = []
    ends: list[str] = []

    class Transport:
        def close(self) -> None:
            ends.append("closed")

    protocol = channel.FrameProtocol(lambda body: documents.append(wire.unpack(body)), lambda: ends.append("end"))
    protocol.connection_made(Transport())  # type: ignore[arg-type]
    while stream and not ends:
        room = protocol.get_buffer(-1)
        count = min(len(room), len(stream), pieces.randint(1, 100_000))
        room[:count] = stream[:count]
        stream = stream[count:]
        protocol.buffer_updated(count)
    return documents, ends


@given(st.lists(PLAIN, max_size=5), st.randoms(use_true_random=False))
def test_documents_arrive_whole_however_the_stream_is_cut(documents: list[Any], pieces: random.Random) -> None:
    stream = b"".join(wire.pack(document) for document in documents)
    assert received(stream, pieces) == (documents, [])


def test_large_frames_grow_the_buffer_and_it_shrinks_again() -> None:
    documents = [b"x" * 1_000_000, "small", b"y" * 300_000]
    assert received(b"".join(map(wire.pack, documents)), random.Random(1)) == (documents, [])


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\0\0\0\1\xc1", b"\0\0\0\2\x01\x01"])
def test_a_stream_that_holds_no_frames_is_ended(garbage: bytes) -> None:
    assert received(garbage, random.Random(1)) == ([], ["closed"])


def test_what_cannot_travel_is_refused_before_it_is_sent() -> None:
    with pytest.raises(Invalid):
        wire.pack(2**64)


def test_half_a_surrogate_pair_arrives_as_it_would_be_shown() -> None:
    assert wire.unpack(wire.pack("\ud800")[4:]) == "\\ud800"


def test_a_result_is_decoded_only_as_what_the_function_returns() -> None:
    reply = replies.unpack_reply(wire.pack([1, None, ["a", "b"]])[4:])
    assert replies.unpack_result(reply, list_objects) == ["a", "b"]
    for function in (ping, freeze, execute, score):
        with pytest.raises(wire.NotAFrame):
            replies.unpack_result(reply, function)


@pytest.mark.parametrize("made_up", [5, [1, None], ["1", None, 1], [1, {"code": "x", "message": [], "details": {}}, 1]])
def test_what_is_no_reply_is_no_frame(made_up: Any) -> None:
    with pytest.raises(wire.NotAFrame):
        replies.unpack_reply(wire.pack(made_up)[4:])


def test_the_workers_end_reads_frames_until_the_stream_is_over() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(wire.pack([1, "a"]) + wire.pack([2, "b"]) + wire.pack([3, "c"])[:-1])
        ours.shutdown(socket.SHUT_WR)
        assert list(wire.frames(theirs)) == [[1, "a"], [2, "b"]]


def test_a_call_sent_to_a_worker_whose_channel_has_ended_is_no_error_on_the_servers_loop_either() -> None:
    """It is the worker's end that its callers are to be told, as soon as there is word of it."""

    async def send() -> None:
        ours, theirs = socket.socketpair()
        ended = asyncio.Event()
        end = channel.Channel(lambda *_: None, lambda: None, ended.set)
        await end.connect(ours)
        theirs.close()
        await ended.wait()
        end.send(1, 1, ping, [()])

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send())


def test_a_console_decodes_characters_cut_in_two() -> None:
    text = console.Console()
    for byte in "grüße €".encode():
        text.write(bytes([byte]))
    text.write(b"\xff")
    assert text.text == "grüße €\ufffd"
    assert text.take() == "grüße €\ufffd"
    assert text.text == ""


def test_a_console_keeps_what_fits_and_says_that_more_is_not_kept() -> None:
    text = console.Console(output_bytes=1000)
    for _ in range(12):
        text.write(b"x" * 99)
    assert text.text == "x" * 1000 + "\n[mlhost: output beyond 1000 bytes is not kept: limits.output_bytes]\n"
    text.clear()
    text.write(b"new")
    assert text.text == "new"


@pytest.mark.parametrize(
    ("status", "peak", "limit", "words"),
    [
        (0, 0, 0, "exit status 0"),
        (3 << 8, 0, 0, "exit status 3"),
        (signal.SIGSEGV, 0, 0, "segmentation fault"),
        (signal.SIGTERM, 0, 0, "ended by a signal (SIGTERM)"),
        (40, 0, 0, "ended by a signal (signal 40)"),
        (signal.SIGABRT, 1 << 30, 1 << 30, "1.00 GiB allowed (limits.memory_bytes): probably out of memory"),
        (1 << 8, 1 << 30, 1 << 30, "exit status 1, peak memory 1.00 GiB of 1.00 GiB allowed (limits.memory_bytes)"),
        (signal.SIGKILL, 1 << 30, 0, "probably out of memory"),
        (
            signal.SIGKILL,
            4 << 30,
            4 << 30,
            "peak memory 4.00 GiB of 4.00 GiB allowed (limits.memory_bytes): probably out of memory",
        ),
        (signal.SIGKILL, 1 << 30, 4 << 30, "killed from outside (SIGKILL), peak memory 1.00 GiB"),
    ],
)
def test_deaths_are_told_in_words(status: int, peak: int, limit: int, words: str) -> None:
    assert words in deaths.describe(status, peak, limit)
