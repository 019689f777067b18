"""A refusal is an error of the server's: the same messages in the same order, with the same state behind them.

Each script is said twice: to the server itself with a command that fails, and through the gateway with one that policy
refuses. What comes back has to be the same, message by message, but for the words of the error.
"""

import struct
import unittest

import psycopg2

from harness.raw import SYNC, Raw, bind, execute, message, parse, query
from test_reviews import Reviews

FLUSH = message(b"H")
# Planning fails, and so does judging: at Bind, or in a simple query.
FAILS, REFUSED = "SELECT 1/0", "DROP TABLE carts"


def describe(kind, name=""):
    return message(b"D", kind + name.encode() + b"\0")


def close(kind, name=""):
    return message(b"C", kind + name.encode() + b"\0")


def run(sql, name=""):
    """One command of the extended protocol, without a Sync."""
    return parse(name, sql) + bind(name, name) + execute(name)


def call(oid):
    """A function call without arguments."""
    return message(b"F", struct.pack("!IHHH", oid, 0, 0, 0))


COPY_DATA = message(b"d", b"1\n") + message(b"d", b"2\n") + message(b"c")
LASTVAL = 2559

# What is sent at once, part by part, and how many ReadyForQuery each part has; `{}` is the command.
SCRIPTS = {
    "a simple query": [(lambda x: query(x), 1)],
    "an extended query": [(lambda x: run(x) + SYNC, 1)],
    "described before": [(lambda x: parse("", x) + describe(b"S") + bind("", "") + execute() + SYNC, 1)],
    "described when bound": [(lambda x: parse("", x) + bind("", "") + describe(b"P") + execute() + SYNC, 1)],
    "in the middle of a pipeline": [(lambda x: run("SELECT 1") + run(x) + run("SELECT 2") + SYNC, 1)],
    "pipelines behind each other": [(lambda x: run(x) + SYNC + run("SELECT 1") + SYNC + run(x) + SYNC + query("SELECT 2"), 4)],
    "simple queries behind each other": [(lambda x: query(x) + query("SELECT 1") + query(x) + query("SELECT 2"), 4)],
    "in a transaction": [
        (lambda x: query("BEGIN"), 1), (lambda x: run(x) + SYNC, 1), (lambda x: query("SELECT 1"), 1),
        (lambda x: run("SELECT 1") + SYNC, 1), (lambda x: query("COMMIT"), 1), (lambda x: query("SELECT 1"), 1),
    ],
    "back to a savepoint": [
        (lambda x: query("BEGIN"), 1), (lambda x: query("SAVEPOINT a"), 1), (lambda x: query(x), 1),
        (lambda x: query("ROLLBACK TO a"), 1), (lambda x: query("SELECT 1"), 1), (lambda x: query("COMMIT"), 1),
    ],
    "a transaction in one pipeline": [(lambda x: run("BEGIN") + run("SELECT 1") + run(x) + run("COMMIT") + SYNC, 1), (lambda x: query("ROLLBACK"), 1)],
    "what is skipped is not done": [
        (lambda x: parse("kept", "SELECT 7") + SYNC, 1),
        (lambda x: run(x) + close(b"S", "kept") + parse("never", "SELECT 8") + SYNC, 1),
        (lambda x: bind("", "kept") + execute() + SYNC, 1), (lambda x: bind("", "never") + execute() + SYNC, 1),
    ],
    "prepared once, run again": [
        (lambda x: parse("p", x) + SYNC, 1), (lambda x: bind("", "p") + execute() + SYNC, 1), (lambda x: bind("", "p") + execute() + SYNC, 1),
    ],
    "behind work without a Sync": [(lambda x: run("SELECT 1") + query(x), 1), (lambda x: query("SELECT 2"), 1)],
    "a query before the Sync is skipped": [(lambda x: run(x) + query("SELECT 1") + call(LASTVAL) + SYNC, 1), (lambda x: query("SELECT 2"), 1)],
    "data of a COPY that did not begin": [(lambda x: query(x) + COPY_DATA, 1), (lambda x: query("SELECT 1"), 1)],
    "data of a COPY in a pipeline": [(lambda x: run(x) + COPY_DATA + SYNC, 1), (lambda x: run("SELECT 1") + SYNC, 1)],
    "flushed": [(lambda x: run("SELECT 1") + FLUSH + run(x) + FLUSH + SYNC, 1)],
    "a Sync too many": [(lambda x: run(x) + SYNC + SYNC + query("SELECT 1"), 3)],
    "a named portal": [(lambda x: parse("", x) + bind("portal", "") + execute("portal") + close(b"P", "portal") + SYNC, 1)],
}  # fmt: skip


class AsAServerError(Reviews):
    def said(self, session, command):
        """Tags of all that comes back, and the state of each ReadyForQuery."""
        found = {}
        for name, parts in SCRIPTS.items():
            said = found[name] = []
            for part, ready in parts:
                session.send(part(command))
                for _ in range(ready):
                    answers = session.answers()
                    # What has no rows is described as that; the one that fails here would have some.
                    tags = [tag.replace(b"n", b"T").decode() for tag, _ in answers if tag not in (b"N", b"S")]
                    said.append("".join(tags) + answers[-1][1].decode())
            session.send(query("DEALLOCATE ALL"))
            session.answers()
        return found

    def test_every_message_is_as_a_server_error_would_have_it(self):
        direct = Raw(self.server.endpoint(), "orders")
        self.addCleanup(direct.socket.close)
        expected, found = self.said(direct, FAILS), self.said(self.raw(), REFUSED)
        for name in SCRIPTS:
            with self.subTest(name):
                self.assertEqual(found[name], expected[name])
        self.assertEqual(self.rows(), 10)

    def test_a_function_call_is_refused_as_one_that_fails(self):
        direct = Raw(self.server.endpoint(), "orders")
        self.addCleanup(direct.socket.close)
        for session in (direct, self.raw()):
            session.send(call(LASTVAL) + query("SELECT 1"))
            self.assertEqual([tag for tag, _ in session.answers()], [b"E", b"Z"])
            self.assertEqual([tag for tag, _ in session.answers()], [b"T", b"D", b"C", b"Z"])

    def test_an_error_comes_without_waiting_for_the_sync(self):
        session = self.raw()
        session.send(run(REFUSED) + FLUSH)
        self.assertEqual(session.error()["C"], "42501")
        session.send(SYNC)
        self.assertEqual([tag for tag, _ in session.answers()], [b"Z"])

    def test_drivers_do_not_try_again(self):
        """Not in the classes of errors that drivers and their users retry: 40xxx, 08xxx, 57P0x."""
        with self.assertRaises(psycopg2.Error) as caught:
            self.connect().cursor().execute(REFUSED)
        self.assertEqual(caught.exception.pgcode, "42501")


if __name__ == "__main__":
    unittest.main()
