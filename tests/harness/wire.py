"""A raw PostgreSQL client: start-up with SCRAM-SHA-256, queries whose results are counted and thrown away.

It costs next to no CPU per byte, so that bulk results measure the server and the road, not the client.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct

from . import HarnessError

READY = b"Z\x00\x00\x00\x05I"
# About what one write of a bulk load carries.
WRITE_BYTES = 256 * 1024


class Session:
    """One authenticated session, without TLS. Use as a context manager or close()."""

    def __init__(self, endpoint, database):
        self.socket = socket.create_connection((endpoint.host, endpoint.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._start(endpoint, database)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self.socket.sendall(b"X\x00\x00\x00\x04")
        except OSError:
            pass
        self.socket.close()

    def drain(self, sql):
        """Runs one query and reads all of its result; returns the bytes received.

        The end is known by the ReadyForQuery that ends what has been received: the data queried must not hold these
        six bytes, which text of printable characters does not.
        """
        text = sql.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!I", 4 + len(text)) + text)
        buffer = bytearray(1 << 20)
        view = memoryview(buffer)
        total, tail, head = 0, b"", b""
        while tail != READY:
            size = self.socket.recv_into(view)
            if size == 0:
                raise HarnessError("the server closed the session during a query")
            head = head or bytes(view[: min(size, 400)])
            tail = (tail + bytes(view[max(0, size - 6) : size]))[-6:]
            total += size
        if head[:1] == b"E":
            raise HarnessError(f"{sql}: {head[5:].decode(errors='replace')}")
        return total

    def fill(self, sql, row, rows):
        """Runs `COPY … FROM STDIN` with `rows` times the same row, many to a write; returns the bytes sent."""
        text = sql.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!I", 4 + len(text)) + text)
        self._expect(b"G", sql)
        message = b"d" + struct.pack("!I", 4 + len(row)) + row
        at_once = max(1, WRITE_BYTES // len(message))
        chunk, rest = divmod(rows, at_once)
        for _ in range(chunk):
            self.socket.sendall(message * at_once)
        self.socket.sendall(message * rest + b"c\x00\x00\x00\x04")
        self._expect(b"C", sql)
        self._expect(b"Z", sql)
        return rows * len(message)

    def _expect(self, tag, sql):
        found, body = self._message()
        if found != tag:
            raise HarnessError(f"{sql}: {body.decode(errors='replace')}")

    def _start(self, endpoint, database):
        words = ["user", endpoint.user, "database", database, "application_name", "bench", ""]
        body = struct.pack("!I", 196608) + b"\0".join(word.encode() for word in words) + b"\0"
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        self._authenticate(endpoint.password)
        while True:
            tag, body = self._message()
            if tag == b"Z":
                return
            if tag == b"E":
                raise HarnessError(f"the session was refused: {body.decode(errors='replace')}")

    def _authenticate(self, password):
        """RFC 5802 and 7677, without channel binding."""
        self._authentication(10)
        nonce = base64.b64encode(os.urandom(18)).decode()
        client_first = f"n=,r={nonce}"
        first = ("n,," + client_first).encode()
        self._password_message(b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
        server_first = self._authentication(11).decode()
        fields = dict(part.split("=", 1) for part in server_first.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        unproven = f"c=biws,r={fields['r']}"
        message = ",".join([client_first, server_first, unproven]).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._password_message(f"{unproven},p={base64.b64encode(proof).decode()}".encode())
        self._authentication(12)
        self._authentication(0)

    def _authentication(self, kind):
        tag, body = self._message()
        if tag != b"R" or struct.unpack_from("!I", body)[0] != kind:
            raise HarnessError(f"authentication did not go on: {body.decode(errors='replace')}")
        return body[4:]

    def _password_message(self, body):
        self.socket.sendall(b"p" + struct.pack("!I", len(body) + 4) + body)

    def _message(self):
        header = self._exactly(5)
        return header[:1], self._exactly(struct.unpack("!I", header[1:])[0] - 4)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise HarnessError("the server closed the session at start-up")
            data += part
        return data
