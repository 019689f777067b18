"""Clients that mean harm, or are broken: each is dealt with alone, in bounded memory, and everybody else goes on."""

import os
import random
import resource
import select
import socket
import struct
import subprocess
import threading
import time
import unittest

from harness import HarnessError
from harness.gateway import Gateway, until
from harness.postgres import Postgres, bin_directory
from harness.raw import (
    PROTOCOL_3_0,
    SSL_REQUEST,
    SYNC,
    Raw,
    Refused,
    bind,
    execute,
    fields,
    message,
    packet,
    parse,
    query,
)  # fmt: skip

DEADLINE_S = 4
MEMORY_MIB = 150
HALF_OPEN = int(os.environ.get("TRAILGATE_HALF_OPEN", "10000"))
GIB_PARAMETER = 1_000_000_000
TOO_LONG = 100 << 20
BYTEA = 17
SILENCE = "a client that says nothing hears nothing"


class Hostile(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Postgres({"fsync": "off"}))
        cls.gateway = cls.enterClassContext(Gateway({"postgres": {"pre_auth_deadline_s": DEADLINE_S}}))
        cls.server.psql("CREATE ROLE app LOGIN PASSWORD 'sesame'", "CREATE DATABASE orders OWNER app")
        cls.gateway.add_target("orders", f"postgres://app:sesame@127.0.0.1:{cls.server.port}/orders?sslmode=disable")
        cls.endpoint = cls.gateway.endpoint("chatgpt", cls.gateway.add_agent("chatgpt"))

    def setUp(self):
        self.assert_serves()
        self.gateway.forget_peak()

    def tearDown(self):
        """After each of them: it serves, it is small, and it has no fault to report."""
        self.assert_serves()
        peak = self.gateway.memory_mib("VmHWM")
        self.assertLess(peak, MEMORY_MIB, f"{peak} MiB were resident at the most")
        self.assertEqual(self.gateway.faults(), [])
        self.assertIsNone(self.gateway.process.poll())

    def assert_serves(self, seconds=10):
        """A stock client gets its answer."""
        began = time.monotonic()
        done = subprocess.run(
            [bin_directory() / "psql", "-XAt", "-c", "SELECT 'at your service'"],
            env=self.endpoint.environment("orders"), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual((done.stdout, done.returncode), ("at your service\n", 0), done.stderr)
        self.assertLess(time.monotonic() - began, seconds)

    def visitor(self, **options):
        """A connection on which nothing has been said."""
        made = Raw(self.endpoint, "", login=False, **options)
        self.addCleanup(made.socket.close)
        return made

    def raw(self, **options):
        session = Raw(self.endpoint, "orders", **options)
        self.addCleanup(session.socket.close)
        return session

    def said_to(self, visitor, within=DEADLINE_S + 3):
        """Everything a visitor hears until the connection is closed, which has to be soon."""
        visitor.socket.settimeout(within)
        heard = b""
        try:
            while part := visitor.socket.recv(1 << 16):
                heard += part
        except ConnectionError:
            pass
        except TimeoutError:
            self.fail(f"still open after {within} s; it heard {heard[:200]!r}")
        return heard

    # Before login

    def test_garbage_as_the_first_bytes(self):
        noise = random.Random(7)
        for first in (
            b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\0" * 65_536,
            b"\xff" * 65_536,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise.randbytes(600),
            b"\x16" * 20_000,
            *(noise.randbytes(noise.randrange(8, 5000)) for _ in range(40)),
        ):
            visitor = self.visitor()
            try:
                visitor.send(first)
            except ConnectionError:
                pass
            heard = self.said_to(visitor)
            self.assertLess(len(heard), 1000, first[:20])

    def test_bad_lengths_of_the_startup_packet(self):
        for length in (0, 3, 4, 7, 10_005, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            visitor = self.visitor()
            visitor.send(struct.pack("!II", length, PROTOCOL_3_0) + b"user\0chatgpt\0\0")
            began = time.monotonic()
            self.said_to(visitor)
            self.assertLess(time.monotonic() - began, DEADLINE_S, f"a length of {length} is refused at once")

    def test_startup_packets_without_sense(self):
        visitors = []
        for body in (b"", b"\0", b"user", b"user\0", b"user\0\0", b"user\0x\0user\0y\0\0", b"\xff\xfe\0\xff\0\0",
                     b"user\0chatgpt\0database\0\0\0", b"options\0-c\0\0" * 300):  # fmt: skip
            visitors.append(self.visitor())
            visitors[-1].send(packet(PROTOCOL_3_0, body))
        for visitor in visitors:
            # SCRAM begins for what makes sense; nobody answers it.
            self.said_to(visitor)

    def test_half_a_startup_packet_and_then_silence(self):
        visitor = self.visitor()
        whole = packet(PROTOCOL_3_0, b"user\0chatgpt\0database\0orders\0\0")
        visitor.send(whole[:11])
        began = time.monotonic()
        heard = self.said_to(visitor)
        took = time.monotonic() - began
        self.assertTrue(DEADLINE_S - 1 < took < DEADLINE_S + 3, f"{took:.1f} s")
        self.assertEqual(fields(heard[5:])["C"], "57014")

    def test_silence_and_drops(self):
        silent, dropping = self.visitor(), self.visitor()
        whole = packet(PROTOCOL_3_0, b"user\0chatgpt\0database\0orders\0\0")
        began = time.monotonic()
        closed = False
        for at in range(len(whole)):
            try:
                dropping.send(whole[at : at + 1])
            except ConnectionError:
                closed = True
                break
            time.sleep(0.3)
            readable = select.select([dropping.socket], [], [], 0)[0]
            if readable:
                closed = True
                break
        self.assertTrue(
            closed and time.monotonic() - began < DEADLINE_S + 3, "byte by byte does not stretch the deadline"
        )
        self.assertEqual(self.said_to(silent), b"", SILENCE)

    def test_a_login_that_never_ends(self):
        visitors = []
        for password in (
            b"p" + struct.pack("!I", 0x3FFFFFFF),
            message(b"p", b"x" * 60_000),
            message(b"Q", b"SELECT 1\0") * 50,
            message(b"p", b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
            message(b"p", b"SCRAM-SHA-256\0\0\0\0\x05nope!"),
        ):
            visitor = self.visitor()
            visitor.send(packet(PROTOCOL_3_0, b"user\0chatgpt\0database\0orders\0\0"))
            self.assertEqual(visitor.read()[0], b"R")
            try:
                visitor.send(password)
            except ConnectionError:
                pass
            visitors.append(visitor)
        for visitor in visitors:
            self.said_to(visitor)

    def test_plain_bytes_behind_the_request_for_tls(self):
        """CVE-2021-23214: what was sent before TLS is never taken for what was said inside."""
        visitor = self.visitor()
        visitor.send(packet(SSL_REQUEST) + packet(PROTOCOL_3_0, b"user\0chatgpt\0database\0orders\0\0"))
        heard = self.said_to(visitor)
        self.assertNotIn(b"SCRAM", heard)
        self.assertNotEqual(heard[:1], b"S")

    def test_requests_for_tls_without_end(self):
        visitor = self.visitor()
        try:
            visitor.send(struct.pack("!II", 8, 80877104) * 5000)
        except ConnectionError:
            pass
        self.assertLess(len(self.said_to(visitor)), 5000)

    def test_cancel_requests_at_random(self):
        noise = random.Random(3)
        for length in (0, 4, 8, 12, 32, 260, 5000):
            visitor = self.visitor()
            visitor.send(packet(80877102, noise.randbytes(length)))
            # Some are answered with a sentence about their length, none of them cancels anything.
            self.assertLess(len(self.said_to(visitor)), 400)

    def test_ten_thousand_half_open_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        count = min(HALF_OPEN, hard - 500)
        if count < HALF_OPEN:
            print(f"only {count} half-open connections: the limit of open files is {hard}", flush=True)
        opened = []
        try:
            began = time.monotonic()
            for number in range(count):
                # Several addresses, as there are 28,000 ports of each.
                one = socket.create_connection(
                    ("127.0.0.1", self.gateway.port), source_address=(f"127.0.1.{number % 8 + 1}", 0)
                )
                one.sendall(b"\0\0\0")
                opened.append(one)
            took = time.monotonic() - began
            self.assert_serves()
            held = until(lambda: len(os.listdir(f"/proc/{self.gateway.process.pid}/fd")))
            print(
                f"{count} opened in {took:.1f} s, {held} open at the gateway, {self.gateway.memory_mib()} MiB",
                flush=True,
            )
            # The first ones may be past their deadline already; a normal client is served all the same.
            self.assertGreater(held, count / 2)
            for _ in range(3):
                self.assert_serves()
            until(lambda: len(os.listdir(f"/proc/{self.gateway.process.pid}/fd")) < 300, seconds=30)
        finally:
            for one in opened:
                one.close()

    # After login

    def test_bad_lengths_of_messages(self):
        for tag in (b"Q", b"P", b"B", b"E", b"D", b"C", b"d", b"F", b"S"):
            for length in (0, 3, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
                session = self.raw()
                session.send(tag + struct.pack("!I", length))
                error = session.error()
                self.assertIsNotNone(error, (tag, length))
                self.assertEqual((error["S"], error["C"]), ("FATAL", "08P01"), (tag, length))
                self.assertTrue(session.is_closed())

    def test_unknown_types_of_messages(self):
        for tag in (b"z", b"!", b"\0", b"\xff", b"R", b"Z", b"p"):
            session = self.raw()
            session.send(message(tag, b"anything\0"))
            error = session.error()
            self.assertEqual((error["S"], error["C"]), ("FATAL", "08P01"), tag)
            self.assertTrue(session.is_closed())

    def test_malformed_messages(self):
        noise = random.Random(5)
        for body in (
            message(b"Q", b"SELECT 1"), message(b"Q", b"SELECT 1\0SELECT 2\0"), message(b"Q", b""),
            message(b"P", b"\0"), message(b"P", b"a\0SELECT 1\0\xff\xff"), message(b"P", b"a\0SELECT 1\0\0\x05\0"),
            message(b"B", b"\0\0\0\x01"), message(b"B", b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"),
            message(b"B", b"\0\0\xff\xff"),
            message(b"B", b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), message(b"E", b"\0"), message(b"E", b"x"),
            message(b"D", b"X\0"), message(b"D", b""), message(b"C", b"S"), message(b"F", b"\0\0\0\xb1"),
            *(message(bytes([noise.choice(b"PBEDCF")]), noise.randbytes(noise.randrange(60))) for _ in range(60)),
        ):  # fmt: skip
            session = self.raw(timeout=10)
            session.send(body, SYNC)
            # Refused by the gateway or by the target: either way in words, and with an end.
            self.assertIsNotNone(session.error(), body)

    def test_a_statement_too_long(self):
        session = self.raw()
        try:
            session.send(query("SELECT '" + "x" * TOO_LONG + "'"))
        except ConnectionError:
            pass
        error = session.error()
        self.assertEqual((error["S"], error["C"]), ("FATAL", "54000"))
        self.assertIn("send the data with COPY or as parameters", error["M"])

    def test_a_statement_too_long_from_psql(self):
        file = self.gateway.home / "large.sql"
        file.write_text("SELECT '" + "x" * TOO_LONG + "';\n")
        done = subprocess.run(
            [bin_directory() / "psql", "-XAt", "-f", file],
            env=self.endpoint.environment("orders"),
            capture_output=True,
            text=True,
        )
        self.assertRegex(done.stderr, r"the gateway takes up to \d+ MiB in one")

    def test_a_parameter_of_a_gigabyte(self):
        size = GIB_PARAMETER if available_mib() > 6000 else GIB_PARAMETER // 8
        if size < GIB_PARAMETER:
            print(f"a parameter of {size} bytes only: the server would need more memory than there is", flush=True)
        session = self.raw(timeout=120)
        session.send(parse("", "SELECT octet_length($1)", BYTEA))
        head = b"\0\0" + struct.pack("!HHH", 1, 1, 1) + struct.pack("!i", size)
        tail = struct.pack("!H", 0)
        began = time.monotonic()
        session.send(b"B" + struct.pack("!I", 4 + len(head) + size + len(tail)) + head)
        chunk = b"x" * (1 << 20)
        left = size
        while left:
            part = min(left, len(chunk))
            session.socket.sendall(chunk[:part])
            left -= part
        session.send(tail, execute(), SYNC)
        answer = dict(session.answers())
        self.assertEqual(answer[b"D"][6:], str(size).encode(), answer)
        print(
            f"{size >> 20} MiB in {time.monotonic() - began:.1f} s, {self.gateway.memory_mib('VmHWM')} MiB resident",
            flush=True,
        )
        entry = until(lambda: self.gateway.entries("--grep", "octet_length", "--kind", "command"))[-1]
        self.assertEqual((entry["outcome"]["status"], entry["outcome"]["rows"]), ("ok", 1))
        self.assertGreater(entry["outcome"]["bytes_in"], size)
        # What is not kept is named, with the hash of the whole.
        self.assertGreater(entry["outcome"]["not_kept"]["bytes"], size - (2 << 20))
        self.assertRegex(entry["outcome"]["not_kept"]["digest"], "^sha256:[0-9a-f]{64}$")

    def test_a_copy_of_half_a_gigabyte(self):
        session = self.raw(timeout=120)
        session.send(query("CREATE TEMP TABLE sink (t text)"))
        session.answers()
        session.send(query("COPY sink FROM STDIN"))
        self.assertEqual(session.read()[0], b"G")
        chunk = message(b"d", (b"y" * 1023 + b"\n") * 1024) * 4
        for _ in range(128):
            session.socket.sendall(chunk)
        session.send(message(b"c"))
        self.assertEqual(session.answers()[0], (b"C", b"COPY 524288\0"))

    def test_a_client_that_never_reads(self):
        sessions = [self.raw() for _ in range(4)]
        for session in sessions:
            # Sent as it is made, and never done.
            session.send(query("SELECT repeat('x', 10000), generate_series(1, 1000000000)"))
        time.sleep(2)
        self.assert_serves()
        self.assertLess(self.gateway.memory_mib("VmHWM"), MEMORY_MIB)
        for session in sessions:
            session.socket.close()
        running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
        until(lambda: self.server.psql(running) == "0", seconds=20)
        outcomes = [entry["outcome"] for entry in self.gateway.entries("--kind", "command") if "1000000000" in entry["command"]["text"]]
        self.assertEqual([outcome["status"] for outcome in outcomes], ["cancelled"] * 4)

    def test_a_client_that_only_writes(self):
        """Pipelined queries whose answers nobody reads: the client has to wait, nobody else."""
        session = self.raw(timeout=2)
        session.socket.settimeout(2)
        sent, batch = 0, query("SELECT repeat('x', 1000)") * 1000
        try:
            while sent < 200 << 20:
                sent += session.socket.send(batch)
        except TimeoutError:
            pass
        self.assertLess(sent, 200 << 20, "the client was never made to wait")
        self.assert_serves()

    def test_a_million_tiny_messages(self):
        session = self.raw(timeout=120)
        count, began = 1_000_000, time.monotonic()
        writer = threading.Thread(target=session.socket.sendall, args=(SYNC * count,))
        writer.start()
        left = count * 6
        while left > 0:
            part = len(session.socket.recv(min(left, 1 << 20)))
            self.assertGreater(part, 0, "the session ended")
            left -= part
        writer.join()
        print(f"{count} messages in {time.monotonic() - began:.1f} s", flush=True)
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])

    def test_many_names_in_one_pipeline(self):
        session = self.raw(timeout=120)
        count = 20_000
        batch = b"".join(parse(f"s{n}", "SELECT 1") + bind("", f"s{n}") + execute() for n in range(count)) + SYNC
        writer = threading.Thread(target=session.socket.sendall, args=(batch,))
        writer.start()
        tags = [tag for tag, _ in session.answers()]
        writer.join()
        self.assertEqual((tags.count(b"C"), tags[-1]), (count, b"Z"))

    def test_a_pipeline_that_goes_on_behind_an_error(self):
        """What is skipped has no answer: however much of it comes before the Sync, nobody waits for one."""
        session = self.raw(timeout=60)
        batch = parse("", "SELECT 1/0") + (bind("", "") + execute()) * 50_000 + SYNC
        writer = threading.Thread(target=session.socket.sendall, args=(batch,))
        writer.start()
        tags = [tag for tag, _ in session.answers()]
        writer.join()
        self.assertEqual((tags.count(b"C"), tags.count(b"E"), tags[-1]), (0, 1, b"Z"))
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])

    def test_sql_that_nests_deeply(self):
        for sql in (
            "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
            "SELECT " + "-" * 30_000 + "1",
            "SELECT " + " + ".join(["1"] * 30_000),
            "SELECT 1 " + "UNION SELECT 1 " * 5_000,
            "SELECT " + "NOT " * 50_000 + "true",
            "SELECT '" + "''" * 200_000 + "'",
            "/*" * 5_000,
            "SELECT " + "CASE WHEN true THEN " * 5_000 + "1" + " END" * 5_000,
            ";" * 100_000,
            "SELECT 1;" * 20_000,
        ):
            session = self.raw(timeout=60)
            session.send(query(sql))
            answers = session.answers()
            self.assertEqual(answers[-1][0], b"Z", sql[:40])
            session.socket.close()

    def test_noise_after_login(self):
        noise = random.Random(11)
        for _ in range(60):
            session = self.raw(timeout=10)
            body = b"".join(
                message(bytes([noise.choice(b"QPBEDCSHFdcfX")]), noise.randbytes(noise.randrange(40)))
                for _ in range(noise.randrange(1, 30))
            )
            try:
                session.send(body)
            except ConnectionError:
                pass
            session.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(session.is_closed(), "an end of input ends the session")

    def test_replication(self):
        for value in ("true", "database", "1", "on", "yes"):
            with self.assertRaises(Refused) as caught:
                Raw(self.endpoint, "orders", replication=value)
            self.assertEqual(caught.exception.fields["C"], "42501", value)

    def test_connections_that_come_and_go(self):
        for number in range(300):
            visitor = self.visitor()
            if number % 3 == 1:
                visitor.send(packet(SSL_REQUEST))
            elif number % 3 == 2:
                visitor.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            visitor.socket.close()
        for _ in range(30):
            try:
                Raw(self.endpoint, "orders").socket.close()
            except HarnessError as error:
                self.fail(error)
        until(lambda: len(os.listdir(f"/proc/{self.gateway.process.pid}/fd")) < 100, seconds=DEADLINE_S + 15)

    def test_z_the_trail_of_all_this_verifies(self):
        found = self.gateway.verify()
        self.assertTrue(found["sound"], found)


def available_mib():
    """Memory that the system could still give."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("MemAvailable"))


if __name__ == "__main__":
    unittest.main()
