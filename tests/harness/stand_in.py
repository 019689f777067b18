#!/usr/bin/env python3
"""A TCP proxy in front of PostgreSQL: proves the comparison before, and beside, the gateway.

Run as: stand_in.py LISTEN_PORT SERVER_PORT FAULT. The fault is what it spoils on purpose, so that the suites can show
that they notice:
  none          nothing; bytes are copied as they come
  notices       every NoticeResponse is dropped
  rows          the row count of every SELECT's CommandComplete is one too high
  parameters    what the client sends as `options` in its startup packet is dropped
  cancels       CancelRequests do not reach the server
"""

import socket
import struct
import sys
import threading

SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


def exactly(source, size):
    data = bytearray()
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return bytes(data)


def copy(source, sink):
    try:
        while data := source.recv(1 << 18):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        close_write(sink)


def close_write(sink):
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def spoil_frames(source, sink, fault):
    """Server to client, message by message."""
    buffer = bytearray()
    try:
        while data := source.recv(1 << 18):
            buffer += data
            out, at = bytearray(), 0
            while len(buffer) - at >= 5:
                size = 1 + struct.unpack_from("!I", buffer, at + 1)[0]
                if len(buffer) - at < size:
                    break
                frame = buffer[at : at + size]
                at += size
                if fault == "notices" and frame[:1] == b"N":
                    continue
                if fault == "rows" and frame[:1] == b"C" and frame[5:12] == b"SELECT ":
                    tag = b"SELECT %d\0" % (int(frame[12:-1]) + 1)
                    frame = b"C" + struct.pack("!I", 4 + len(tag)) + tag
                out += frame
            del buffer[:at]
            if out:
                sink.sendall(out)
    except OSError:
        pass
    finally:
        close_write(sink)


def without_options(body):
    """A startup packet's parameters less `options`."""
    words = body[4:].split(b"\0")
    pairs = [(words[i], words[i + 1]) for i in range(0, len(words) - 2, 2) if words[i]]
    kept = b"".join(key + b"\0" + value + b"\0" for key, value in pairs if key != b"options")
    return body[:4] + kept + b"\0"


def serve(client, server_port, fault):
    with client, socket.create_connection(("127.0.0.1", server_port)) as server:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = (copy, (server, client))
        if fault != "none":
            try:
                while True:
                    size = struct.unpack("!I", exactly(client, 4))[0]
                    body = exactly(client, size - 4)
                    code = struct.unpack_from("!I", body)[0]
                    if code not in (SSL_REQUEST, GSSENC_REQUEST):
                        break
                    client.sendall(b"N")
            except OSError:
                return
            if fault == "cancels" and code == CANCEL_REQUEST:
                return
            if fault == "parameters" and code != CANCEL_REQUEST:
                body = without_options(body)
            server.sendall(struct.pack("!I", len(body) + 4) + body)
            if code != CANCEL_REQUEST:
                back = (spoil_frames, (server, client, fault))
        pump = threading.Thread(target=back[0], args=back[1], daemon=True)
        pump.start()
        copy(client, server)
        pump.join()


def main():
    listen_port, server_port, fault = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if fault not in ("none", "notices", "rows", "parameters", "cancels"):
        sys.exit(f"unknown fault {fault}")
    with socket.create_server(("127.0.0.1", listen_port), backlog=512) as listener:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, server_port, fault), daemon=True).start()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
