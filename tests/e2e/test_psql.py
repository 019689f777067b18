"""psql, unchanged but for host, port, user, password: what it prints, and what stands in the trail."""

import os
import pty
import re
import signal
import subprocess
import time
import unittest

from harness.gateway import until
from harness.postgres import bin_directory
from house import COMMAND, Case


class Psql(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.psql(
            "CREATE TABLE IF NOT EXISTS carts (id int PRIMARY KEY, label text)",
            "INSERT INTO carts SELECT n, 'cart ' || n FROM generate_series(1, 10) n ON CONFLICT DO NOTHING",
            "ALTER TABLE carts OWNER TO app",
            database="orders",
        )

    def test_an_entry_has_the_shape_of_the_contract(self):
        done = self.psql("SELECT label FROM carts WHERE id <= 3 ORDER BY id", arguments=["-At"])
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("cart 1\ncart 2\ncart 3\n", "", 0))
        start, entry, end = self.sessions()[0]
        self.assertEqual(set(entry), COMMAND)
        session = entry["session"]
        self.assertRegex(session, "^[0-9a-hjkmnp-tv-z]{26}$")
        self.assertEqual((entry["id"], entry["seq"], entry["kind"]), (f"{session}-2", 2, "command"))
        self.assertRegex(entry["at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertTrue(0 < entry["duration_us"] < 10_000_000, entry["duration_us"])
        who = entry["principal"]
        self.assertEqual((who["kind"], who["name"], who["on_behalf_of"]), ("agent", "chatgpt", "alice"))
        self.assertRegex(who["credential"], "^cr_[0-9a-z]{26}$")
        # psql takes TLS where it is offered, and binds the channel.
        self.assertEqual((who["proven_by"], who["certainty"]), ("scram-sha-256-plus", "verified"))
        client = entry["client"]
        self.assertRegex(client["addr"], r"^127\.0\.0\.1:\d+$")
        self.assertEqual((client["application"], client["task"]), (self.application, None))
        self.assertEqual((client["tls"], client["certainty"]), ("TLSv1.3", "asserted"))
        target = entry["target"]
        self.assertEqual(
            {name: target[name] for name in ("name", "kind", "role", "database")},
            {"name": "orders", "kind": "postgres", "role": "app", "database": "orders"},
        )
        self.assertRegex(target["peer"], r"^backend \d+$")
        command = entry["command"]
        self.assertRegex(command.pop("digest"), "^sha256:[0-9a-f]{64}$")
        self.assertEqual(
            command,
            {
                "text": "SELECT label FROM carts WHERE id <= 3 ORDER BY id", "params": [], "verb": "SELECT",
                "class": "read", "objects": ["public.carts"],
            },
        )  # fmt: skip
        decision = entry["decision"]
        self.assertEqual((decision["effect"], decision["policies"], decision["review"]), ("permit", ["observe"], None))
        self.assertRegex(decision["policy_hash"], "^sha256:[0-9a-f]{64}$")
        # Q, its length, the text and its end; T, three times D, C and Z.
        self.assertEqual(entry["outcome"].pop("bytes_in"), 1 + 4 + 49 + 1)
        self.assertGreater(entry["outcome"].pop("bytes_out"), 60)
        self.assertEqual(
            entry["outcome"],
            {"status": "ok", "executed": True, "rows": 3, "code": None, "message": None, "exit": None},
        )
        self.assertEqual(set(entry["leaf"]), {"log", "index"})
        self.assertEqual(
            (start["kind"], start["seq"], start["command"], start["outcome"]), ("session.start", 1, None, None)
        )
        self.assertEqual(end["event"], {"entries": 3, "reason": "client", "detail": None})
        self.assertEqual(start["leaf"]["index"] < entry["leaf"]["index"] < end["leaf"]["index"], True)

    def test_the_application_is_what_psql_says(self):
        environment = self.environment()
        del environment["PGAPPNAME"]
        psql = [bin_directory() / "psql", "-X", "-c", "SELECT 'by its own name'"]
        subprocess.run(psql, env=environment, check=True, capture_output=True)
        found = until(lambda: self.entries("--grep", "by its own name", "--kind", "command"))
        self.assertEqual([entry["client"]["application"] for entry in found], ["psql"])

    def test_each_statement_of_a_query_has_its_own_outcome(self):
        done = self.psql("SELECT 1; SELECT * FROM carts WHERE id < 3; SELECT 1 / 0; SELECT 4; DELETE FROM carts")
        self.assertIn("division by zero", done.stderr)
        one, two, failed, *rest = self.commands()
        self.assert_outcome(one, "ok", rows=1)
        self.assert_outcome(two, "ok", rows=2)
        self.assert_outcome(failed, "error", code="22012")
        self.assertEqual(failed["outcome"]["message"], "division by zero")
        self.assertEqual([entry["command"]["text"] for entry in rest], ["SELECT 4", "DELETE FROM carts"])
        for entry in rest:
            self.assert_outcome(entry, "cancelled", executed=False)
            self.assertIn("not run", entry["outcome"]["message"])
        self.assertEqual(self.server.psql("SELECT count(*) FROM carts", database="orders"), "10")

    def test_an_error(self):
        done = self.psql("SELECT * FROM missing_table")
        self.assertEqual(done.returncode, 1)
        self.assertIn(
            'ERROR:  relation "missing_table" does not exist\nLINE 1: SELECT * FROM missing_table', done.stderr
        )
        entry = self.one_command()
        self.assert_outcome(entry, "error", code="42P01")
        self.assertEqual(entry["outcome"]["message"], 'relation "missing_table" does not exist')

    def test_what_does_not_parse_is_unknown(self):
        done = self.psql("SELEKT 1")
        self.assertIn('syntax error at or near "SELEKT"', done.stderr)
        entry = self.one_command()
        self.assertEqual(entry["command"]["class"], "unknown")
        self.assert_outcome(entry, "error", code="42601")

    def test_copy_out_and_in(self):
        out_and_in = "\\copy carts TO STDOUT\nCREATE TEMP TABLE loaded (n int, t text);\n\\copy loaded FROM STDIN\n"
        done = self.psql(script=out_and_in + "1\tone\n2\ttwo\n\\.\n")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("10\tcart 10\n", done.stdout)
        out, _, into = self.commands()
        self.assertEqual(
            (out["command"]["verb"], out["command"]["class"], out["command"]["objects"]),
            ("COPY", "read", ["public.carts"]),
        )
        self.assert_outcome(out, "ok", rows=10)
        data = sum(len(f"{n}\tcart {n}\n") for n in range(1, 11))
        self.assertGreater(out["outcome"]["bytes_out"], data + 10 * 5)
        self.assertEqual((into["command"]["verb"], into["command"]["class"]), ("COPY", "write"))
        self.assert_outcome(into, "ok", rows=2)
        self.assertGreater(into["outcome"]["bytes_in"], len("1\tone\n2\ttwo\n") + len(into["command"]["text"]))

    def test_a_copy_that_fails(self):
        done = self.psql(
            script="CREATE TEMP TABLE loaded (n int);\n\\copy loaded FROM STDIN\nnot a number\n\\.\nSELECT 1;\n"
        )
        self.assertIn("invalid input syntax for type integer", done.stderr)
        _, copy, after = self.commands()
        self.assert_outcome(copy, "error", code="22P02")
        self.assert_outcome(after, "ok", rows=1)

    def test_a_cursor(self):
        self.psql(
            "BEGIN", "DECLARE c CURSOR FOR SELECT * FROM carts", "FETCH 4 FROM c", "MOVE 2 IN c", "CLOSE c", "COMMIT"
        )
        commands = self.commands()
        self.assertEqual(
            [(entry["command"]["verb"], entry["outcome"]["rows"]) for entry in commands],
            [
                ("BEGIN", None),
                ("DECLARE CURSOR", None),
                ("FETCH", 4),
                ("MOVE", 2),
                ("CLOSE CURSOR", None),
                ("COMMIT", None),
            ],
        )
        self.assertEqual(commands[1]["command"]["objects"], ["public.carts"])

    def test_a_transaction(self):
        self.psql(
            "BEGIN", "UPDATE carts SET label = 'x' WHERE id IN (1, 2)", "ROLLBACK", "DELETE FROM carts WHERE false"
        )
        begin, update, rollback, delete = self.commands()
        self.assertEqual(
            [entry["command"]["class"] for entry in (begin, update, rollback)], ["session", "write", "session"]
        )
        self.assert_outcome(update, "ok", rows=2)
        self.assert_outcome(rollback, "ok")
        self.assert_outcome(delete, "ok", rows=0)

    def test_prepared_in_sql(self):
        self.psql("PREPARE find (int) AS SELECT label FROM carts WHERE id = $1", "EXECUTE find(7)", "DEALLOCATE find")
        prepare, execute, _ = self.commands()
        self.assertEqual((prepare["command"]["verb"], execute["command"]["verb"]), ("PREPARE", "EXECUTE"))
        # What a prepared statement touches is known when it runs.
        self.assertEqual((execute["command"]["class"], execute["command"]["objects"]), ("read", ["public.carts"]))
        self.assert_outcome(execute, "ok", rows=1)

    def test_bound_parameters(self):
        version = subprocess.run([bin_directory() / "psql", "--version"], capture_output=True, text=True).stdout
        if int(re.search(r"\d+", version).group()) < 16:
            self.skipTest(r"this psql has no \bind; test_parameters_of_pgbench covers it")
        self.psql(script="SELECT label FROM carts WHERE id = $1 \\bind 7 \\g\n")
        entry = self.one_command()
        self.assertEqual(entry["command"]["params"], ["7"])
        self.assert_outcome(entry, "ok", rows=1)

    def test_parameters_of_pgbench(self):
        script = self.gateway.home / "script.sql"
        script.write_text("\\set id 7\nSELECT label FROM carts WHERE id = :id;\n")
        for mode in ("extended", "prepared"):
            done = subprocess.run(
                ["pgbench", "-n", "-M", mode, "-t", "3", "-f", script],
                env=self.environment(),
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
        commands = [entry for entry in self.commands(2) if "carts" in entry["command"]["text"]]
        self.assertEqual(len(commands), 6)
        for entry in commands:
            self.assertEqual(
                (entry["command"]["text"], entry["command"]["params"]),
                ("SELECT label FROM carts WHERE id = $1;", ["7"]),
            )
            self.assert_outcome(entry, "ok", rows=1)

    def test_definitions_grants_and_code(self):
        self.psql(
            "CREATE TABLE scratch (n int)", "GRANT SELECT ON scratch TO PUBLIC", "SET search_path = public",
            "DO $$ BEGIN PERFORM 1; END $$", "DROP TABLE scratch",
        )  # fmt: skip
        found = [(entry["command"]["verb"], entry["command"]["class"]) for entry in self.commands()]
        self.assertEqual(
            found,
            [
                ("CREATE TABLE", "define"),
                ("GRANT", "administer"),
                ("SET", "session"),
                ("DO", "execute"),
                ("DROP TABLE", "define"),
            ],
        )

    def test_an_empty_query(self):
        # psql itself sends nothing for an empty line; a comment it sends.
        done = self.psql(script="/* nothing */ ;\nSELECT 1;\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_outcome(self.commands()[-1], "ok", rows=1)

    def test_ctrl_c_cancels(self):
        control, terminal = pty.openpty()
        client = subprocess.Popen(
            [bin_directory() / "psql", "-X", "-c", "SELECT pg_sleep(30)"], env=self.environment(),
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        try:
            self.wait_until_runs("pg_sleep(30)")
            began = time.monotonic()
            os.killpg(client.pid, signal.SIGINT)
            self.assertEqual(client.wait(10), 1)
            self.assertLess(time.monotonic() - began, 5)
            said = os.read(control, 4096).decode()
        finally:
            client.kill()
            client.wait()
            os.close(control)
        self.assertIn("canceling statement due to user request", said)
        entry = self.one_command()
        self.assert_outcome(entry, "cancelled", code="57014")
        self.assertGreater(entry["duration_us"], 1_000)


if __name__ == "__main__":
    unittest.main()
