"""What stock clients of today seldom say, said by a raw client: new protocol versions, pipelines, portals, cancelling
in TLS, direct TLS, function calls."""

import struct
import time
import unittest

from harness.raw import (
    GSSENC_REQUEST,
    PROTOCOL_3_2,
    SYNC,
    TERMINATE,
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
from house import Case

DESCRIBE_PORTAL = message(b"D", b"P\0")
INT4, TEXT = 23, 25


class Protocol(Case):
    def raw(self, database="orders", user="chatgpt", **options):
        session = Raw(self.endpoint(user), database, application_name=self.application, **options)
        self.addCleanup(session.socket.close)
        return session

    def end(self, session):
        session.send(TERMINATE)
        self.assertTrue(session.is_closed())

    def test_version_3_2(self):
        session = self.raw(protocol=PROTOCOL_3_2)
        # Either it is agreed on, or 3.0 is said to be the newest.
        self.assertIn(session.negotiated, (None, 3 << 16))
        if session.negotiated is None:
            self.assertGreater(len(session.key), 8)
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])
        self.end(session)
        self.assert_outcome(self.one_command(), "ok", rows=1)

    def test_a_version_of_the_future_is_negotiated(self):
        session = self.raw(protocol=3 << 16 | 9999, **{"_pq_.something": "new"})
        self.assertIsNotNone(session.negotiated)
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])

    def test_direct_tls(self):
        session = self.raw(direct=True)
        self.assertEqual(session.socket.selected_alpn_protocol(), "postgresql")
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])
        self.end(session)
        self.assertEqual(self.sessions()[0][0]["client"]["tls"], "TLSv1.3")

    def test_gss_encryption_is_declined_and_things_go_on(self):
        session = self.raw(login=False)
        session.send(packet(GSSENC_REQUEST))
        self.assertEqual(session.socket.recv(1), b"N")
        session._start(self.endpoint(), "orders")
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])

    def test_a_pipeline(self):
        session = self.raw()
        session.send(
            parse("add", "SELECT $1::int + $2::int", INT4, INT4),
            *(part for n in range(50) for part in (bind("", "add", b"%d" % n, b"1"), execute(), SYNC)),
        )
        for n in range(50):
            answer = session.answers()
            row = next(body for tag, body in answer if tag == b"D")
            self.assertEqual(row[6:], b"%d" % (n + 1))
        self.end(session)
        commands = self.commands()
        self.assertEqual([entry["command"]["params"] for entry in commands], [[str(n), "1"] for n in range(50)])
        for entry in commands:
            self.assert_outcome(entry, "ok", rows=1)

    def test_after_an_error_the_rest_until_sync_is_not_run(self):
        session = self.raw()
        for sql in ("SELECT 1", "SELECT 1 / $1::int", "SELECT 3"):
            values = [b"0"] if "$1" in sql else []
            session.send(parse("", sql), bind("", "", *values), execute())
        session.send(SYNC)
        self.assertIn(b"E", [tag for tag, _ in session.answers()])
        session.send(parse("", "SELECT 4"), bind("", ""), execute(), SYNC)
        self.assertIn(b"C", [tag for tag, _ in session.answers()])
        self.end(session)
        one, failed, skipped, four = self.commands()
        self.assert_outcome(one, "ok", rows=1)
        self.assert_outcome(failed, "error", code="22012")
        self.assertEqual((failed["command"]["text"], failed["command"]["params"]), ("SELECT 1 / $1::int", ["0"]))
        self.assert_outcome(skipped, "cancelled", executed=False)
        self.assert_outcome(four, "ok", rows=1)

    def test_a_portal_read_in_pieces_is_one_command(self):
        session = self.raw()
        session.send(
            parse("", "SELECT n FROM generate_series(1, 25) n"), bind("p", ""), execute("p", 10), message(b"H")
        )
        tags = []
        while not tags or tags[-1] != b"s":
            tags.append(session.read()[0])
        session.send(execute("p", 10), execute("p", 10), SYNC)
        tags += [tag for tag, _ in session.answers()]
        self.assertEqual(tags.count(b"D"), 25)
        self.end(session)
        self.assert_outcome(self.one_command(), "ok", rows=25)

    def test_binary_parameters_are_readable(self):
        session = self.raw()
        values = (struct.pack("!i", -7), "naïve".encode(), None, struct.pack("!d", 2.5))
        session.send(
            parse("", "SELECT $1::int, $2::text, $3::text, $4::float8", INT4, TEXT, TEXT, 701),
            bind("", "", *values, binary=True), execute(), SYNC,
        )  # fmt: skip
        session.answers()
        self.end(session)
        self.assertEqual(self.one_command()["command"]["params"], ["-7", "naïve", None, "2.5"])

    def test_invalid_utf_8_is_kept_as_it_was(self):
        session = self.raw()
        session.send(query(b"SELECT 'a\xff\xfeb'"))
        error = next(fields(body) for tag, body in session.answers() if tag == b"E")
        self.assertEqual(error["C"], "22021")
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])
        self.end(session)
        entry, _ = self.commands()
        self.assert_outcome(entry, "error", code="22021")
        self.assertEqual(entry["command"]["text_base64"], "U0VMRUNUICdh//5iJw==")
        self.assertEqual(entry["command"]["class"], "unknown")

    def test_a_function_call(self):
        session = self.raw()
        # int4pl(int4, int4) is function 177.
        body = struct.pack("!IHHH", 177, 1, 1, 2) + b"".join(struct.pack("!ii", 4, value) for value in (40, 2))
        session.send(message(b"F", body + struct.pack("!H", 1)))
        answer = dict(session.answers())
        self.assertEqual(answer[b"V"], struct.pack("!ii", 4, 42))
        self.end(session)
        entry = self.one_command()
        self.assertEqual(entry["outcome"]["status"], "ok")
        self.assertIn("177", entry["command"]["text"])

    def cancelled_in(self, seconds, **how):
        session = self.raw()
        session.send(query("SELECT pg_sleep(20)"))
        self.wait_until_runs("pg_sleep(20)")
        began = time.monotonic()
        session.cancel(self.endpoint(), **how)
        session.socket.settimeout(seconds)
        try:
            error = session.error()
        except TimeoutError:
            error = None
        return session, error, time.monotonic() - began

    def test_cancel_in_tls(self):
        session, error, took = self.cancelled_in(5, tls=True)
        self.assertEqual((error["C"], took < 5), ("57014", True))
        self.assertEqual(session.read(), (b"Z", b"I"))
        self.end(session)
        self.assert_outcome(self.one_command(), "cancelled", code="57014")

    def test_a_wrong_key_cancels_nothing(self):
        session, error, _ = self.cancelled_in(1, key=struct.pack("!II", 1, 1))
        self.assertIsNone(error)
        session.cancel(self.endpoint())
        session.socket.settimeout(10)
        self.assertEqual(session.error()["C"], "57014")

    def test_the_keys_are_the_gateways_own(self):
        """What a client is given does not cancel anything at the target itself."""
        session = self.raw()
        session.send(query("SELECT pg_sleep(2), 'own key'"))
        self.wait_until_runs("own key")
        session.cancel(self.server.endpoint())
        self.assertIn(b"D", [tag for tag, _ in session.answers()])

    def test_replication_is_refused_unless_allowed(self):
        with self.assertRaises(Refused) as caught:
            self.raw(replication="database")
        self.assertEqual(caught.exception.fields["C"], "42501")
        self.assertIn("orders", caught.exception.fields["M"])
        self.assertIn("replication", self.failed_login()["event"]["reason"])
        self.server.psql("ALTER ROLE app REPLICATION")
        self.addCleanup(self.server.psql, "ALTER ROLE app NOREPLICATION")
        self.gateway.add_target("copied", self.house.target_url(), "--allow", "replication")
        session = self.raw("copied", replication="database")
        self.assertEqual(session.run("IDENTIFY_SYSTEM"), [b"T", b"D", b"C", b"Z"])
        self.end(session)
        self.assertEqual(self.one_command()["command"]["text"], "IDENTIFY_SYSTEM")

    def test_a_client_that_is_killed_in_a_pipeline(self):
        """The outcome of everything it sent stands in the trail all the same."""
        session = self.raw()
        session.send(query("SELECT pg_sleep(1)"), query("SELECT 'after it'"))
        self.wait_until_runs("pg_sleep(1)")
        session.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: close with a reset
        session.socket.close()
        sleep, after = self.commands()
        for entry in (sleep, after):
            # The target has run both, and the gateway has stayed to see how they ended.
            self.assert_outcome(entry, "ok", rows=1)
        self.assertEqual(self.sessions()[0][-1]["event"]["reason"], "client")


if __name__ == "__main__":
    unittest.main()
