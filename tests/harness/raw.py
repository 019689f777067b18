"""A raw PostgreSQL client that can say anything, right or wrong, in TLS or not."""

import socket
import ssl
import struct

from . import HarnessError
from .wire import Session

PROTOCOL_3_0 = 3 << 16
PROTOCOL_3_2 = 3 << 16 | 2
SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


def message(tag, body=b""):
    """A message with its tag and length."""
    return tag + struct.pack("!I", len(body) + 4) + body


def packet(code, body=b""):
    """A message from before start-up: a length and a code."""
    return struct.pack("!II", len(body) + 8, code) + body


def query(sql):
    text = sql if isinstance(sql, bytes) else sql.encode()
    return message(b"Q", text + b"\0")


def parse(name, sql, *types):
    oids = b"".join(struct.pack("!I", oid) for oid in types)
    return message(b"P", name.encode() + b"\0" + sql.encode() + b"\0" + struct.pack("!H", len(types)) + oids)


def bind(portal, statement, *values, binary=False):
    """Values are bytes or None."""
    body = portal.encode() + b"\0" + statement.encode() + b"\0" + struct.pack("!HHH", 1, int(binary), len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(b"B", body + struct.pack("!H", 0))


def execute(portal="", rows=0):
    return message(b"E", portal.encode() + b"\0" + struct.pack("!I", rows))


SYNC = message(b"S")
TERMINATE = message(b"X")


class Raw(Session):
    """One session. With `tls` it asks for TLS, with `direct` it begins with it. `parameters` go into the start-up
    packet; with `login=False` nothing is sent but what TLS takes. `source` is the address to come from."""

    def __init__(
        self, endpoint, database, tls=False, direct=False, protocol=PROTOCOL_3_0, login=True, timeout=30, source=None,
        **parameters,
    ):  # fmt: skip
        here = (source, 0) if source else None
        self.socket = socket.create_connection((endpoint.host, endpoint.port), timeout=timeout, source_address=here)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol, self.parameters = protocol, parameters
        self.key = None
        self.negotiated = None
        self.settings = {}
        try:
            if tls or direct:
                self._encrypt(direct)
            if login:
                self._start(endpoint, database)
        except BaseException:
            self.socket.close()
            raise

    def send(self, *messages):
        self.socket.sendall(b"".join(messages))

    def read(self):
        """The next message: its tag and body."""
        return self._message()

    def answers(self):
        """All messages up to and with the next ReadyForQuery, as (tag, body)."""
        found = []
        while not found or found[-1][0] != b"Z":
            found.append(self._message())
        return found

    def run(self, sql):
        """One simple query; the tags of its answer."""
        self.send(query(sql))
        return [tag for tag, _ in self.answers()]

    def error(self):
        """The next ErrorResponse, as {field: text}; what stands before it is skipped. None when the connection ends."""
        while True:
            try:
                tag, body = self._message()
            except (HarnessError, OSError):
                return None
            if tag == b"E":
                return fields(body)

    def error_or_ready(self):
        """The fields of the next ErrorResponse; None if ReadyForQuery comes first."""
        while True:
            tag, body = self._message()
            if tag == b"E":
                return fields(body)
            if tag == b"Z":
                return None

    def is_closed(self):
        """Whether the other side has closed; reads what it sent before."""
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionError:
            return True
        except (TimeoutError, BlockingIOError):
            return False
        return True

    def cancel(self, endpoint, tls=False, key=None):
        """Sends a CancelRequest for this session, on a connection of its own."""
        other = Raw(endpoint, "", tls=tls, login=False)
        other.send(packet(CANCEL_REQUEST, key or self.key))
        other.is_closed()
        other.socket.close()

    def _encrypt(self, direct):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if direct:
            context.set_alpn_protocols(["postgresql"])
        else:
            self.socket.sendall(packet(SSL_REQUEST))
            if (answer := self.socket.recv(1)) != b"S":
                raise HarnessError(f"no TLS: {answer!r}")
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def _start(self, endpoint, database):
        named = {"user": endpoint.user, "database": database, **self.parameters}
        words = b"".join(f"{name}\0{value}\0".encode() for name, value in named.items())
        self.socket.sendall(packet(self.protocol, words + b"\0"))
        self._authenticate(endpoint.password)
        while True:
            tag, body = self._message()
            if tag == b"Z":
                return
            if tag == b"K":
                self.key = body
            elif tag == b"S":
                name, value = body.split(b"\0")[:2]
                self.settings[name.decode()] = value.decode()
            elif tag == b"E":
                raise Refused(fields(body))

    def _authentication(self, kind):
        tag, body = self._message()
        if tag == b"v":
            self.negotiated = struct.unpack("!I", body[:4])[0]
            tag, body = self._message()
        if tag == b"E":
            raise Refused(fields(body))
        if tag != b"R" or struct.unpack_from("!I", body)[0] != kind:
            raise HarnessError(f"authentication did not go on: {body.decode(errors='replace')}")
        return body[4:]


class Refused(HarnessError):
    """The session was refused; `fields` are those of the ErrorResponse."""

    def __init__(self, found):
        super().__init__(found.get("M", ""))
        self.fields = found


def fields(body):
    """An ErrorResponse or NoticeResponse as {field: text}."""
    parts = body.rstrip(b"\0").split(b"\0")
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in parts if part}
