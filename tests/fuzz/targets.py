"""What is fuzzed by ``tests.fuzz.guided``: bytes to faults, by the suite's own oracles.

A target takes any bytes and returns what is wrong, nothing if all is well. Those that
run the whole server take their random choices from the input alone, so that the same
bytes do the same again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

import h11

from djserve.asgi.forwarded import ProxyHeaders
from djserve.conf.schema import HTTPConfig, ProxyConfig
from djserve.errors import ProtocolError
from djserve.interfaces import ConnectionInfo, RequestHead
from djserve.net.proxy_protocol import (
    SIGNATURE,
    V1_LIMIT,
    V2_LIMIT,
    BadHeader,
    missing_bytes,
    parse_header,
)
from djserve.net.tls_records import (
    DATA_PER_EMPTY,
    EMPTY_LIMIT,
    HEADER_SIZE,
    RecordGate,
    TooManyEmptyRecords,
)
from djserve.protocols.http1.request import HeadParser, HeadReader
from tests.fuzz import http1_bytes, http2_bytes, http3_bytes, websocket_bytes
from tests.fuzz.http1_check import find_smuggled, parse_responses
from tests.fuzz.http2_check import FrameCheck
from tests.fuzz.http3_case import HTTP3Case
from tests.fuzz.mutation import split
from tests.fuzz.server import Case
from tests.fuzz.websocket_check import check_frames, find_forged
from tests.protocols.test_grammar import verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INFO = ConnectionInfo(("127.0.0.1", 50000), ("127.0.0.1", 80))
PROXY_ADDRESS = b"203.0.113.7"
SEED_COUNT = 40

_FORWARDED = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"forwarded",
)
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
_DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


class Target(NamedTuple):
    """``run`` judges an input; ``seeds`` are inputs to begin with."""

    run: Callable[[bytes], list[str]]
    seeds: Callable[[], Iterator[bytes]]


# Heads.


def run_head(data: bytes) -> list[str]:
    """A head is refused with a status, or is what h11 takes it for."""
    block, _, _ = data.partition(b"\r\n\r\n")
    try:
        head = HeadParser(HTTPConfig(), HeadReader()).parse(block + b"\r\n\r\n")
    except ProtocolError as error:
        return [] if 400 <= error.status <= 505 else [f"status {error.status}"]
    if any(byte <= 0x20 or byte == 0x7F for byte in head.raw_path + head.query):
        return [f"a blank or control byte in {head.raw_path!r} {head.query!r}"]
    return _compare_with_h11(block + b"\r\n\r\n", head)


def _compare_with_h11(block: bytes, head: RequestHead) -> list[str]:
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(block.lstrip(b"\r\n"))
    try:
        event = server.next_event()
    except h11.RemoteProtocolError as error:
        return [] if _is_known(str(error)) else [f"not a head to h11: {error}"]
    if not isinstance(event, h11.Request):
        return [f"not a request to h11: {event}"]
    faults = []
    if event.method != head.method.encode():
        faults.append(f"{head.method}, to h11 {event.method!r}")
    # A name with an underscore is dropped; the target may bring the host with it.
    theirs = [name for name, _ in event.headers if b"_" not in name]
    ours = [name for name, _ in head.headers]
    if sorted({*theirs, b"host"}) != sorted({*ours, b"host"}):
        faults.append(f"{head.headers}, to h11 {list(event.headers)}")
    if len(theirs) - theirs.count(b"host") != len(ours) - ours.count(b"host"):
        faults.append(f"{len(ours)} fields, to h11 {len(theirs)}")
    return faults


def _is_known(error: str) -> bool:
    """Return whether h11 is stricter, and the RFCs leave it open or are wider.

    It takes no target beyond ASCII (docs/explanation/decisions/0008-one-grammar.md).
    """
    return "request line" in error


def seed_heads() -> Iterator[bytes]:
    for number in range(SEED_COUNT):
        yield http1_bytes.build_request(random.Random(number))
    yield from http1_bytes.TOKENS
    yield b"PROPFIND http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n"
    yield _HANDSHAKE + _DEFLATE + b"\r\n"


# One grammar for both protocols.


def run_grammar(data: bytes) -> list[str]:
    """Both protocols have the same verdict on the parts of a request.

    The input is method, target, host, field name and value on a line each.
    """
    lines = data.split(b"\n")
    parts = [line for line in lines if not {0x0D, 0x20, 0x09} & {*line}]
    if len(parts) != 5 or len(lines) != 5 or not all(parts[:2]):
        # Blanks and line ends part a head over HTTP/1.1 only.
        return []
    method, target, host, name, value = parts
    if name != name.lower() or name in _FRAMING or b":" in name or not name:
        return []
    if _is_elsewhere(method, target):
        return []
    one, two = verdicts(method, target, host, [(name, value)])
    if isinstance(one, int) and isinstance(two, int):
        # Wrong in more than one way, perhaps: each protocol names what it sees first.
        alone = (
            verdicts(method),
            verdicts(target=target),
            verdicts(host=host),
            verdicts(fields=[(name, value)]),
        )
        return [f"{data!r}: {pair}" for pair in alone if pair[0] != pair[1]]
    return [] if one == two else [f"HTTP/1.1 {one}, HTTP/2 {two}"]


# Fields with which each protocol frames content and connections in its own way.
_FRAMING = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te"),
    *(b"transfer-encoding", b"upgrade", b"host", b"content-length"),
}


def _is_elsewhere(method: bytes, target: bytes) -> bool:
    """Return whether HTTP/1.1 has a target in absolute-form, which HTTP/2 has not."""
    return not target.startswith((b"/", b"*")) or method == b"CONNECT"


def seed_grammar() -> Iterator[bytes]:
    yield b"GET\n/a?b\na.example:80\nx\ny"
    yield "GET\n/é?é\n[::1]\nexpect\n100-continue".encode()
    yield b"OPTIONS\n*\na\nx_y\n\x80"
    yield b"QUERY\n/\na\nx-y\n\x7f"
    yield b"get\n/#\nu@a\ncookie\n\x01"


# Connections: the whole server in memory.


def _run_case(data: bytes, control: bytes, *, alpn: str = "", tame: bool) -> Case:
    rng = random.Random(control)
    case = Case(_take_loop(), rng, alpn=alpn, is_tame=tame)
    case.run(split(rng, data))
    return case


def _take_loop() -> asyncio.AbstractEventLoop:
    """Return one event loop for all runs, without the debug mode's stacks."""
    if not _loops:
        for name in ("djserve", "asyncio"):
            logging.getLogger(name).propagate = False
        _loops.append(asyncio.new_event_loop())
        asyncio.set_event_loop(_loops[0])
    return _loops[0]


_loops: list[asyncio.AbstractEventLoop] = []


def run_http1(data: bytes) -> list[str]:
    """No stream of requests breaks the server, and h11 reads the same in it.

    The input's first two bytes decide what the applications and the network do.
    """
    control, stream = data[:2], data[2:]
    case = _run_case(stream, control, tame=control[:1] < b"\x80")
    faults = case.faults + find_smuggled(stream, case.factory.exchanges)
    try:
        parse_responses(bytes(case.transport.received), case.factory.heads)
    except (h11.RemoteProtocolError, AssertionError) as error:
        faults.append(f"no client reads the responses: {error}")
    return faults


def seed_http1() -> Iterator[bytes]:
    for number in range(SEED_COUNT):
        rng = random.Random(number)
        yield rng.randbytes(2) + http1_bytes.build_requests(rng)
    for number in range(5):
        yield b"\0a" + http1_bytes.build_handshake(random.Random(number))
    yield b"\0a" + "POST /caf\u00e9?\u00d2 HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def run_http2(data: bytes) -> list[str]:
    """No stream of frames breaks the server, nor makes it break the protocol.

    In every second input (by its first byte) the frames are records: kind, flags,
    stream and length in a byte each, so that any bytes are whole frames.
    """
    control, stream = data[:2], data[2:]
    if control[:1] and control[0] & 1:
        stream = http2_bytes.PREFACE + b"".join(_read_records(stream))
    case = _run_case(stream, control, alpn="h2", tame=control[:1] < b"\x80")
    check = FrameCheck()
    check.read(bytes(case.transport.received))
    return case.faults + check.faults


def _read_records(data: bytes) -> Iterator[bytes]:
    yield http2_bytes.frame(http2_bytes.SETTINGS, 0, 0)
    position = 0
    while len(data) - position >= 4:
        kind, flags, stream_id, size = data[position : position + 4]
        position += 4
        payload = data[position : position + size]
        position += size
        yield http2_bytes.frame(kind % 18, flags, stream_id, payload)


def seed_http2() -> Iterator[bytes]:
    for number in range(SEED_COUNT):
        rng = random.Random(number)
        control = bytes((rng.randrange(256) & 0xFE, rng.randrange(256)))
        yield control + http2_bytes.RawClient(rng).build()
    head = b"\x82\x86\x84\x41\x01a"
    tunnel = b"\x02\x07CONNECT\x87\x84\x41\x01a\x00\x09:protocol\x09websocket"
    for number in range(4):
        control = bytes((number * 0x40 | 1, number))
        yield control + b"\x01\x05\x01" + bytes((len(head),)) + head
        yield control + b"\x01\x04\x01" + bytes((len(head),)) + head + b"\0\1\1\1x"
        yield control + b"\x01\x04\x01" + bytes((len(tunnel),)) + tunnel
        yield (
            control
            + b"\x04\0\0\6\0\4\0\1\0\0"
            + b"\x08\0\0\4\0\0\1\0"
            + b"\x03\0\1\4\0\0\0\x08"
        )


def run_http3(data: bytes) -> list[str]:
    """No bytes on any stream break the server, nor make it break the protocol.

    In every second input (by its first byte) the content is in whole frames.
    """
    control, steps = data[:2], data[2:]
    tame = control[:1] < b"\x80"
    case = HTTP3Case(_take_loop(), random.Random(control), alpn="h3", is_tame=tame)
    in_frames = bool(control) and bool(control[0] & http3_bytes.IN_FRAMES)
    case.run_steps(http3_bytes.read_steps(steps, in_frames=in_frames))
    return case.faults


def run_records(data: bytes) -> list[str]:
    """What the TLS gate lets in is what has come, and no flood goes through it.

    Each record of the input says whether OpenSSL finds data in it: its type's lowest
    bit. The first byte decides how it is cut.
    """
    source, target = ssl.MemoryBIO(), ssl.MemoryBIO()
    openssl = _OpenSSL(target)
    gate = RecordGate(source, target)
    # It keeps no part of a record's data.
    read = gate.connect(openssl.read, lambda: 0)
    stream, came = data[1:], b""
    try:
        for piece in split(random.Random(data[:1]), stream):
            source.write(piece)
            came += piece
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    read(1024)
    except TooManyEmptyRecords:
        allowed = EMPTY_LIMIT + openssl.data_size // DATA_PER_EMPTY
        return [] if openssl.empty > allowed else ["an honest peer is refused"]
    faults = []
    if not came.startswith(openssl.got):
        faults.append("OpenSSL has got what did not come")
    if openssl.empty > EMPTY_LIMIT + openssl.data_size // DATA_PER_EMPTY:
        faults.append(f"{openssl.empty} records without data")
    # A header that was let in is read with what follows it.
    kept = len(came) - len(openssl.got) - target.pending
    if source.pending or kept > HEADER_SIZE - 1:
        faults.append(f"{kept} bytes were kept back")
    return faults


class _OpenSSL:
    """Take whole records, and count those without data."""

    def __init__(self, target: ssl.MemoryBIO) -> None:
        self._target = target
        self._position = 0
        self.got = b""
        self.data_size = 0
        self.empty = 0

    def read(self, size: int) -> bytes:
        self.got += self._target.read()
        while len(head := self.got[self._position : self._position + 5]) == 5:
            end = self._position + 5 + int.from_bytes(head[3:])
            if end > len(self.got):
                break
            content = self.got[self._position + 5 : end]
            self._position = end
            if head[0] & 1 and content:
                self.data_size += len(content)
                return content
            self.empty += 1
        raise ssl.SSLWantReadError


def seed_records() -> Iterator[bytes]:
    data, none = b"\x17\3\3\0\3abc", b"\x16\3\3\0\1x"
    for number in range(4):
        yield bytes([number]) + data + none + data
        yield bytes([number]) + none * 40
        yield bytes([number]) + (data + none) * 40
        yield bytes([number]) + b"\x17\3\3\0\0" * 40 + data[:6]


def run_websocket(data: bytes) -> list[str]:
    """No stream of frames breaks the server, and websockets reads the same in it.

    The first byte's lowest bits say whether messages may be compressed, and whether the
    rest is records: a frame's first byte, the size of its length (or an unmasked
    frame's), its length, and its payload as it is before it is masked.
    """
    control, rest = data[:2], data[2:]
    bits = control[0] if control else 0
    frames = b"".join(_read_frames(rest)) if bits & 1 else rest
    is_deflated = bool(bits & 2)
    head = _HANDSHAKE + (_DEFLATE if is_deflated else b"") + b"\r\n"
    case = _run_case(head + frames, control, tame=bits < 0x80)
    received = bytes(case.transport.received)
    try:
        answers, _ = parse_responses(received, case.factory.heads)
    except (h11.RemoteProtocolError, AssertionError) as error:
        return [*case.faults, f"no client reads the response: {error}"]
    if answers and answers[-1].status == 101:
        accepted, _, sent = received.partition(b"\r\n\r\n")
        agreed = b"sec-websocket-extensions" in accepted
        case.faults += check_frames(sent, is_deflated=agreed)
        messages = case.applications.messages
        case.faults += find_forged(frames, messages, is_deflated=agreed)
    return case.faults


def _read_frames(data: bytes) -> Iterator[bytes]:
    position = 0
    while len(data) - position >= 3:
        first, form, size = data[position : position + 3]
        position += 3
        payload = data[position : position + size]
        position += size
        mask, key = (0, b"") if form == 0xFF else (0x80, b"\0\0\0\0")
        if form % 3 == 0 and len(payload) < 126:
            length = bytes((mask | len(payload),))
        elif form % 3 == 1:
            length = bytes((mask | 126,)) + len(payload).to_bytes(2, "big")
        else:
            length = bytes((mask | 127,)) + len(payload).to_bytes(8, "big")
        yield bytes((first,)) + length + key + payload


def seed_websocket() -> Iterator[bytes]:
    for number in range(SEED_COUNT):
        rng = random.Random(number)
        bits = rng.choice((0, 2, 0x80, 0x82))
        frames = websocket_bytes.build_frames(rng, is_deflated=bool(bits & 2))
        yield bytes((bits, number)) + frames[:4000]
    deflated = websocket_bytes.deflate(random.Random(0), b"hello")
    compressed = b"\xc1\0" + bytes((len(deflated),)) + deflated
    for bits in (1, 3, 0x81, 0x83):
        control = bytes((bits, 7))
        yield control + b"\x81\0\2hi\x89\0\1p\x01\0\1a\x80\1\1b\x88\0\2\3\xe8"
        yield control + compressed + b"\x41\0\3" + deflated[:3] + b"\x80\2\1\0"


# Proxies.


def run_forwarded(data: bytes) -> list[str]:
    """What a client says changes nothing left of what its proxy adds.

    Each line of the input is a field: its first byte chooses the name.
    """
    fields = [
        (_FORWARDED[line[0] % len(_FORWARDED)], line[1:].replace(b"\r", b""))
        for line in data.split(b"\n")
        if line
    ]
    faults = _check_forwarded(fields)
    reader = ProxyHeaders(ProxyConfig(proxy_headers=True))
    for name, value in (
        (b"x-forwarded-for", PROXY_ADDRESS),
        (b"forwarded", b"for=" + PROXY_ADDRESS),
    ):
        said = [item for item in fields if item[0] == name]
        added = reader.apply(_build_head([*said, (name, value)]), INFO)
        joined = b",".join([*(item[1] for item in said), value])
        line = reader.apply(_build_head([(name, joined)]), INFO)
        for forwarded in (added, line):
            if forwarded is None or forwarded.client != (PROXY_ADDRESS.decode(), 0):
                faults.append(f"{said} hides {name!r} of the proxy")
    return faults


def _check_forwarded(fields: list[tuple[bytes, bytes]]) -> list[str]:
    reader = ProxyHeaders(ProxyConfig(proxy_headers=True))
    forwarded = reader.apply(_build_head(fields), INFO)
    if forwarded is None:
        return []
    faults = []
    if forwarded.scheme not in (None, "http", "https"):
        faults.append(f"scheme {forwarded.scheme!r}")
    if not 0 < (forwarded.port or 1) < 65536:
        faults.append(f"port {forwarded.port}")
    if forwarded.client and str(ip_address(forwarded.client[0])) != forwarded.client[0]:
        faults.append(f"client {forwarded.client}")
    if forwarded.host is not None and verdicts(host=forwarded.host)[0] == 400:
        faults.append(f"host {forwarded.host!r}")
    return faults


def _build_head(fields: list[tuple[bytes, bytes]]) -> RequestHead:
    return RequestHead("GET", b"/", b"", [(b"host", b"a"), *fields], "1.1")


def seed_forwarded() -> Iterator[bytes]:
    hops = b"192.0.2.1, [2001:db8::1]:80, ::ffff:127.0.0.1"
    yield b"\0" + hops + b"\n\x01https\n\x02a:80\n\x03443"
    yield b'\x04for="[2001:db8::1]:_x";proto=https;host="a\\.b",for=unknown'
    yield b"\x04for=192.0.2.1;by=_a , for=_b\n\x04host=c"
    yield b"\x00127.0.0.1%lo, 1.2.3.4:567, unknown"


def run_proxy(data: bytes) -> list[str]:
    """A PROXY header is refused, or is what a second reader takes it for.

    It is read as the server reads it, no more at a time than is missing for certain.
    """
    header = b""
    try:
        while missing := missing_bytes(header):
            if missing < 0:
                return [f"{missing} bytes are missing from {header!r}"]
            piece = data[len(header) : len(header) + missing]
            if not piece:
                return []
            header += piece
            if len(header) > max(V1_LIMIT, V2_LIMIT + 16):
                return [f"a header of {len(header)} bytes"]
        found = parse_header(header)
    except BadHeader:
        return []
    expected = _read_proxy(header)
    if (found.client, found.server) != expected:
        return [f"{found}, to the second reader {expected}"]
    return []


def _read_proxy(header: bytes) -> object:
    """Read the header again, word by word, as its specification has it."""
    if header.startswith(SIGNATURE):
        return _read_proxy_v2(header)
    words = header.removesuffix(b"\r\n").decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return None, None
    addresses = [ip_address(words[2]), ip_address(words[3])]
    if "%" in "".join(words):
        return "a zone"
    if {address.version for address in addresses} != {int(words[1][3:])}:
        return f"addresses that are not {words[1]}"
    hosts = [str(address) for address in addresses]
    ports = [int(word) for word in words[4:6]]
    if [str(port) for port in ports] != words[4:6] or max(ports) > 65535:
        return f"ports {words[4:6]}"
    return (hosts[0], ports[0]), (hosts[1], ports[1])


def _read_proxy_v2(header: bytes) -> object:
    version, command = header[12] >> 4, header[12] & 15
    family, transport = header[13] >> 4, header[13] & 15
    if version != 2 or command > 1:
        return f"version {version}, command {command}"
    if len(header) != 16 + int.from_bytes(header[14:16], "big"):
        return f"{len(header)} bytes"
    if command == 0 or family not in (1, 2) or transport != 1:
        return None, None
    size = 4 if family == 1 else 16
    rest = header[16:]
    hosts = [str(ip_address(rest[:size])), str(ip_address(rest[size : 2 * size]))]
    ports = rest[2 * size : 2 * size + 4]
    return (
        (hosts[0], int.from_bytes(ports[:2], "big")),
        (hosts[1], int.from_bytes(ports[2:], "big")),
    )


def seed_proxy() -> Iterator[bytes]:
    yield b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 80\r\n"
    yield b"PROXY TCP6 2001:db8::1 ::1 50000 80\r\n"
    yield b"PROXY UNKNOWN\r\n"
    yield b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\nGET"
    yield SIGNATURE + b"\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\xc3\x50\0\x50"
    yield SIGNATURE + b"\x21\x21\0\x24" + bytes(15) + b"\1" + bytes(15) + b"\2abcd"
    yield SIGNATURE + b"\x20\0\0\0"
    yield SIGNATURE + b"\x21\x11\0\x0f\xc0\0\2\1\xc0\0\2\2\xc3\x50\0\x50\4\0\0"


TARGETS = {
    "head": Target(run_head, seed_heads),
    "grammar": Target(run_grammar, seed_grammar),
    "http1": Target(run_http1, seed_http1),
    "http2": Target(run_http2, seed_http2),
    "http3": Target(run_http3, http3_bytes.build_seeds),
    "records": Target(run_records, seed_records),
    "websocket": Target(run_websocket, seed_websocket),
    "forwarded": Target(run_forwarded, seed_forwarded),
    "proxy": Target(run_proxy, seed_proxy),
}
