"""Bytes that nobody should send: each ends its own connection, and nothing else."""

import os
import random
import socket
import struct
import time
import unittest

from house import Case, House, mark, until
from harness.sshd import keygen

try:
    import paramiko
except ImportError:
    paramiko = None


def hello(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.recv(255)
    return connection


def ends(connection, seconds=20):
    """Whether the gateway ends it."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except (ConnectionError, TimeoutError) as error:
        return not isinstance(error, TimeoutError)
    return True


class Hostile(Case):
    def alive(self):
        self.assertEqual(self.house.ssh("echo alive", check=0).stdout, b"alive\n")

    def test_bytes_that_are_not_ssh(self):
        random.seed(1)
        for first in [b"GET / HTTP/1.1\r\n\r\n", b"SSH-1.5-old\r\n", b"SSH-2.0-x\r\n" + os.urandom(4096), os.urandom(4096),
                      b"SSH-2.0-" + b"a" * 300_000 + b"\r\n", b"\0" * 100_000,
                      b"SSH-2.0-x\r\n" + struct.pack(">IB", 0xFFFFFFFF, 4), b"SSH-2.0-x\r\n" + struct.pack(">IB", 1, 200),
                      b"SSH-2.0-x\r\n" + struct.pack(">IBB", 12, 4, 20) + b"\0" * 6 + b"\0" * 4]:  # fmt: skip
            with hello(self.house.port) as connection:
                try:
                    connection.sendall(first)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                self.assertTrue(ends(connection), first[:40])
        self.alive()

    def test_a_key_exchange_with_every_byte_turned(self):
        random.seed(2)
        start = os.urandom(16)
        lists = [b"curve25519-sha256", b"ssh-ed25519"] + [b"aes256-ctr"] * 2 + [b"hmac-sha2-256"] * 2 + [b"none"] * 2 + [b"", b""]
        payload = b"\x14" + start + b"".join(struct.pack(">I", len(x)) + x for x in lists) + b"\0" * 5
        for _ in range(150):
            broken = bytearray(payload)
            for _ in range(random.randint(1, 8)):
                broken[random.randrange(len(broken))] = random.randrange(256)
            padding = 8 - (len(broken) + 5) % 8 + 8
            packet = struct.pack(">IB", len(broken) + padding + 1, padding) + bytes(broken) + bytes(padding)
            with hello(self.house.port) as connection:
                try:
                    connection.sendall(b"SSH-2.0-x\r\n" + packet + os.urandom(200))
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                self.assertTrue(ends(connection))
        self.alive()

    def test_who_says_nothing_is_sent_away(self):
        with House({"ssh": {"pre_auth_deadline_s": 2}}) as house:
            began = time.monotonic()
            silent = hello(house.port)
            slow = hello(house.port)
            slow.sendall(b"SSH-2.0-slow\r\n")
            self.assertTrue(ends(silent, 10))
            self.assertTrue(ends(slow, 10))
            self.assertLess(time.monotonic() - began, 9)
            self.assertEqual(house.ssh("echo on time", check=0).stdout, b"on time\n")

    def test_long_greetings_end_the_connection(self):
        for first in [b"x" * 200 + b"\r\n"] * 3:
            with hello(self.house.port) as connection:
                try:
                    connection.sendall(first * 5000)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                self.assertTrue(ends(connection))
        self.alive()

    def test_many_strangers_at_once_keep_nobody_out(self):
        silent = [hello(self.house.port) for _ in range(150)]
        try:
            self.alive()
        finally:
            for connection in silent:
                connection.close()

    def test_who_guesses_is_slowed_down_and_keeps_nobody_out(self):
        with House() as house:
            house.ssh("true", check=0)
            stranger = keygen(house.home / "stranger")
            options = ("-F", "none", "-p", str(house.port), "-o", "BatchMode=yes", "-o", f"IdentityFile={stranger}",
                       "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={house.known_hosts}")  # fmt: skip
            for _ in range(60):
                done = house.ssh("true", options=options, host="web1@127.0.0.1")
                self.assertEqual(done.returncode, 255)
            failed = until(lambda: (found := house.entries("--kind", "auth.failed", "--limit", "100")) and len(found) >= 20 and found)
            # A burst is recorded, a flood is not: it would fill the trail.
            self.assertLess(len(failed), 55)
            # From the same address and to the same target, but known here.
            self.assertEqual(house.ssh("echo in", check=0).stdout, b"in\n")


@unittest.skipIf(paramiko is None, "paramiko is not installed")
class Known(Case):
    """What somebody does who is let in."""

    def transport(self, house=None):
        house = house or self.house
        transport = paramiko.Transport(("127.0.0.1", house.port))
        transport.start_client(timeout=20)
        transport.auth_publickey("web1", paramiko.Ed25519Key.from_private_key_file(str(house.key)))
        self.addCleanup(transport.close)
        return transport

    def test_channels_beyond_the_limit_are_refused_and_the_others_go_on(self):
        transport = self.transport()
        channels = []
        with self.assertRaises(paramiko.ChannelException):
            for _ in range(1000):
                channels.append(transport.open_session(timeout=20))
        self.assertGreaterEqual(len(channels), 100)
        channels[3].exec_command("echo on")
        self.assertEqual(channels[3].makefile().read(), b"on\n")
        # Closed ones make room.
        for channel in channels[10:40]:
            channel.close()
        until(lambda: self.opens(transport))
        self.assertEqual(self.house.ssh("echo alive", check=0).stdout, b"alive\n")

    def opens(self, transport):
        try:
            transport.open_session(timeout=20).close()
            return True
        except paramiko.ChannelException:
            return False

    def test_channels_and_requests_that_nobody_knows_are_refused(self):
        transport = self.transport()
        for kind in ("tun@openssh.com", "x11", "forwarded-tcpip", "auth-agent@openssh.com", "nothing@example.com"):
            with self.assertRaises(paramiko.SSHException, msg=kind):
                transport.open_channel(kind, dest_addr=("a", 1), src_addr=("b", 2), timeout=20)
        self.assertIsNone(transport.global_request("nothing@example.com", wait=True))
        channel = transport.open_session()
        channel.exec_command("echo on")
        self.assertEqual(channel.makefile().read(), b"on\n")

    def test_a_second_program_on_a_channel_is_refused(self):
        channel = self.transport().open_session()
        channel.exec_command("cat; echo end")
        with self.assertRaises(paramiko.SSHException):
            channel.exec_command("echo second")

    def test_what_is_no_sftp_ends_its_channel_only(self):
        transport = self.transport()
        for data in (b"\0\0\0\0", b"\xff" * 100, b"\0\0\0\x05\x01\0\0\0\x03\0\0\0\x01\x03", os.urandom(5000)):
            channel = transport.open_session()
            channel.settimeout(20)
            channel.invoke_subsystem("sftp")
            channel.sendall(data)
            channel.shutdown_write()
            while channel.recv(65536):
                pass
        channel = transport.open_session()
        channel.exec_command("echo on")
        self.assertEqual(channel.makefile().read(), b"on\n")

    def test_a_client_that_vanishes_leaves_nothing_behind(self):
        with House() as house:
            command = f"echo begun; sleep 300 # {mark()}"
            transport = self.transport(house)
            for _ in range(5):
                channel = transport.open_session()
                channel.exec_command(command)
                self.assertEqual(channel.recv(6), b"begun\n")
            # Without a goodbye: a reset.
            transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.sock.close()
            until(lambda: len([e for e in house.entries("--kind", "command") if e["command"]["text"] == command]) == 5)
            until(lambda: house.entries("--kind", "session.end"))
            statuses = {e["outcome"]["status"] for e in house.entries("--kind", "command")}
            self.assertEqual(statuses, {"cancelled"})
