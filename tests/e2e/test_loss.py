"""One of the parties goes away in the middle: what the others hear, and what stands in the trail."""

import os
import signal
import subprocess
import time
import unittest

from harness.gateway import until
from harness.postgres import bin_directory
from harness.raw import Raw, query
from harness.roads import StandIn
from house import Case


class Loss(Case):
    def interrupted(self, database, sql, interrupt):
        """What a client hears that runs `sql` while `interrupt` happens to the session of that backend."""
        # A raw one: libpq's PQexec, and so psycopg2, drops an error that is followed by the connection's end.
        session = Raw(self.endpoint(), database, tls=True, timeout=10, application_name=self.application)
        self.addCleanup(session.socket.close)
        session.send(query(sql))
        interrupt(self.wait_until_runs(sql.split("'")[1]))
        fields = session.error()
        self.assertTrue(session.is_closed())
        self.assertIsNotNone(fields, "the connection ended without a word")
        return fields

    def test_the_way_to_the_target_breaks(self):
        with StandIn(self.server) as road:
            self.gateway.add_target("frail", self.house.target_url(port=road.port))
            self.addCleanup(self.gateway.run, "target", "remove", "frail")
            fields = self.interrupted("frail", "SELECT pg_sleep(20), 'frail'", lambda _: road.process.kill())
        self.assertEqual((fields["S"], fields["C"]), ("FATAL", "08006"))
        self.assertIn("the target `frail` closed the connection", fields["M"])
        self.assert_outcome(self.one_command(), "unknown", executed=None)
        end = self.sessions()[0][-1]
        self.assertEqual(end["event"]["reason"], "target")
        self.assertIn("frail", end["event"]["detail"])

    def test_the_target_ends_the_session(self):
        fields = self.interrupted(
            "orders", "SELECT pg_sleep(20), 'terminated'",
            lambda backend: self.server.psql(f"SELECT pg_terminate_backend({backend})"),
        )  # fmt: skip
        self.assertEqual(fields["C"], "57P01")
        self.assertEqual(fields["M"], "terminating connection due to administrator command")
        self.assert_outcome(self.one_command(), "error", code="57P01")
        self.assertEqual(self.sessions()[0][-1]["event"]["reason"], "target")

    def test_the_client_is_killed(self):
        client = subprocess.Popen(
            [bin_directory() / "psql", "-X", "-c", "SELECT pg_sleep(2), 'abandoned'"], env=self.environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.wait_until_runs("abandoned")
        client.send_signal(signal.SIGKILL)
        client.wait()
        entry = self.one_command()
        # The target did it, and the gateway has stayed to see how it ended.
        self.assert_outcome(entry, "ok", rows=1)
        self.assertGreater(entry["duration_us"], 1_900_000)
        self.assertEqual(self.sessions()[0][-1]["event"]["reason"], "client")

    def test_the_client_is_killed_in_a_copy(self):
        self.server.psql("CREATE TABLE IF NOT EXISTS half (n int)", "ALTER TABLE half OWNER TO app", database="orders")
        client = subprocess.Popen(
            [bin_directory() / "psql", "-X", "-c", "\\copy half FROM STDIN"], env=self.environment(),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        client.stdin.write(b"1\n" * 100_000)
        client.stdin.flush()
        self.wait_until_runs("half")
        time.sleep(0.2)
        client.kill()
        client.wait()
        client.stdin.close()
        self.assert_outcome(self.one_command(), "error", code="08006")
        self.assertEqual(self.server.psql("SELECT count(*) FROM half", database="orders"), "0")

    def test_the_client_is_killed_in_a_transaction(self):
        self.server.psql(
            "CREATE TABLE IF NOT EXISTS undone (n int)", "ALTER TABLE undone OWNER TO app", database="orders"
        )
        with self.connection() as connection:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO undone VALUES (1)")
            os.close(os.dup(connection.fileno()))
        self.sessions()
        self.assertEqual([entry["command"]["verb"] for entry in self.commands()], ["BEGIN", "INSERT"])
        until(
            lambda: self.server.psql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in trans%'") == "0"
        )
        self.assertEqual(self.server.psql("SELECT count(*) FROM undone", database="orders"), "0")


if __name__ == "__main__":
    unittest.main()
