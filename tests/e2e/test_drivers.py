"""psycopg2 (libpq as programs use it): cursors, binary COPY, large objects, notifications, cancelling, large values."""

import io
import os
import select
import threading
import time
import unittest

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from house import Case


class Drivers(Case):
    def run_one(self, sql, *values, **options):
        with self.connection(**options) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall()

    def cancel_a_sleep(self, **options):
        """Cancels from another thread, as programs do; the seconds it took."""
        with self.connection(**options) as connection, connection.cursor() as cursor:

            def cancel():
                self.wait_until_runs("pg_sleep(25)")
                connection.cancel()

            canceller = threading.Thread(target=cancel)
            canceller.start()
            with self.assertRaises(psycopg2.errors.QueryCanceled):
                cursor.execute("SELECT pg_sleep(25)")
            canceller.join()
            cursor.execute("SELECT 'still here'")
            self.assertEqual(cursor.fetchall(), [("still here",)])
        cancelled, after = self.commands()
        self.assert_outcome(cancelled, "cancelled", code="57014")
        self.assertLess(cancelled["duration_us"], 10_000_000)
        self.assert_outcome(after, "ok", rows=1)

    def test_cancel_without_tls(self):
        self.cancel_a_sleep(sslmode="disable")
        self.assertNotIn("tls", self.sessions()[0][0]["client"])

    def test_cancel_of_a_session_in_tls(self):
        # libpq before 17 sends the request itself in the clear; test_protocol has it in TLS.
        self.cancel_a_sleep(sslmode="require")

    def test_binary_copy(self):
        with self.connection() as connection, connection.cursor() as cursor:
            out = io.BytesIO()
            cursor.copy_expert(
                "COPY (SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) n) TO STDOUT (FORMAT binary)", out
            )
            self.assertTrue(out.getvalue().startswith(b"PGCOPY\n\xff\r\n\0"))
            out.seek(0)
            cursor.execute("CREATE TEMP TABLE loaded (n int, t text)")
            cursor.copy_expert("COPY loaded FROM STDIN (FORMAT binary)", out)
            cursor.execute("SELECT count(*), sum(length(t)) FROM loaded")
            self.assertEqual(cursor.fetchall(), [(2000, 2_000_000)])
        copied, _, loaded, _ = self.commands()
        self.assert_outcome(copied, "ok", rows=2000)
        self.assertGreater(copied["outcome"]["bytes_out"], 2_000_000)
        self.assert_outcome(loaded, "ok", rows=2000)
        self.assertGreater(loaded["outcome"]["bytes_in"], 2_000_000)

    def test_large_objects_are_function_calls(self):
        content = os.urandom(300_000)
        with self.connection(autocommit=False) as connection:
            made = connection.lobject(0, "wb")
            made.write(content)
            made.close()
            self.assertEqual(connection.lobject(made.oid, "rb").read(), content)
            connection.commit()
        commands = self.commands()
        verbs = [entry["command"]["verb"] for entry in commands]
        self.assertEqual((verbs[0], verbs[-1]), ("BEGIN", "COMMIT"))
        texts = " ".join(entry["command"]["text"] for entry in commands)
        for function in ("lo_creat", "lo_open", "lowrite", "loread", "lo_close"):
            self.assertIn(function, texts)
        for entry in commands:
            self.assertEqual(entry["outcome"]["status"], "ok", entry)
        written = sum(entry["outcome"]["bytes_in"] for entry in commands if "lowrite" in entry["command"]["text"])
        self.assertGreater(written, len(content))

    def test_notifications_reach_the_other_session(self):
        with self.connection() as listener, self.connection() as speaker:
            listener.cursor().execute("LISTEN news")
            speaker.cursor().execute("NOTIFY news, 'extra'")
            self.assertTrue(select.select([listener], [], [], 10)[0], "no notification came while idle")
            listener.poll()
            self.assertEqual([(note.channel, note.payload) for note in listener.notifies], [("news", "extra")])
        verbs = {entry["command"]["verb"]: entry["outcome"]["status"] for entry in self.commands(2)}
        self.assertEqual(verbs, {"LISTEN": "ok", "NOTIFY": "ok"})

    def test_a_named_cursor(self):
        with self.connection(autocommit=False) as connection:
            with connection.cursor("walker") as cursor:
                cursor.itersize = 40
                cursor.execute("SELECT n FROM generate_series(1, 100) n")
                self.assertEqual(sum(row[0] for row in cursor), 5050)
            connection.commit()
        fetched = [entry["outcome"]["rows"] for entry in self.commands() if entry["command"]["verb"] == "FETCH"]
        self.assertEqual(sum(fetched), 100)
        self.assertEqual(fetched[:3], [40, 40, 20])

    def test_notices_reach_the_client(self):
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute("DO $$ BEGIN RAISE WARNING 'mind the gap'; END $$")
            self.assertIn("mind the gap", "".join(connection.notices))

    def test_values_of_some_megabytes(self):
        value = "ü" * 3_000_000
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT %s, octet_length(%s)", (value, value))
            self.assertEqual(cursor.fetchone(), (value, 6_000_000))
        entry = self.one_command()
        self.assert_outcome(entry, "ok", rows=1)
        self.assertGreater(len(entry["command"]["text"]), 6_000_000)

    def test_sessions_beside_each_other(self):
        def work(number):
            with self.connection() as connection, connection.cursor() as cursor:
                for turn in range(20):
                    cursor.execute("SELECT %s, %s", (number, turn))
                    answers.append(cursor.fetchone() == (number, turn))

        answers = []
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, [True] * 160)
        sessions = self.sessions(8)
        self.assertEqual(len(sessions), 8)
        for entries in sessions:
            self.assertEqual([entry["seq"] for entry in entries], list(range(1, 23)))
            self.assertEqual(entries[-1]["event"]["entries"], 22)
            said = {entry["command"]["text"].split(",")[0] for entry in entries[1:-1]}
            self.assertEqual(len(said), 1, "no session has the command of another")

    def test_what_runs_longer_than_a_second_is_seen_before_it_ends(self):
        with self.connection() as connection, connection.cursor() as cursor:
            runner = threading.Thread(target=cursor.execute, args=("SELECT pg_sleep(2.5)",))
            runner.start()
            started = []
            while runner.is_alive() and not started:
                started = self.entries("--kind", "command.started", "--grep", "pg_sleep(2.5)")
                time.sleep(0.1)
            seen_while_running = runner.is_alive()
            runner.join()
        self.assertTrue(started and seen_while_running, "command.started comes after a second, not at the end")
        self.assertIsNone(started[0]["outcome"])
        entry = self.one_command()
        self.assert_outcome(entry, "ok", rows=1)
        self.assertGreater(entry["duration_us"], 2_400_000)

    def test_quick_commands_have_no_command_started(self):
        self.run_one("SELECT 'quick'")
        kinds = [entry["kind"] for entry in self.sessions()[0]]
        self.assertEqual(kinds, ["session.start", "command", "session.end"])

    def test_tasks_are_named_by_the_client(self):
        self.run_one("SELECT 1", options="-c trailgate.task=ticket-42")
        client = self.one_command()["client"]
        self.assertEqual((client["task"], client["certainty"]), ("ticket-42", "asserted"))

    def test_settings_at_startup_reach_the_target(self):
        options = "-c statement_timeout=12345 -c search_path=pg_catalog"
        self.assertEqual(self.run_one("SHOW statement_timeout", options=options), [("12345ms",)])
        self.assertEqual(self.run_one("SHOW application_name"), [(self.application,)])


if __name__ == "__main__":
    unittest.main()
