"""kill -9 in the middle of writing, again and again: no executed command without an entry, none twice.

TRAILGATE_KILLS is how often it is killed (5 by default). After each kill the gateway starts over the same data. In the
end what the server holds is compared with what the trail says: every row has its INSERT, every INSERT that a client saw
confirmed is `ok`, and every one that the trail calls `ok` is a row.
"""

import os
import random
import subprocess
import threading
import time
import unittest
from pathlib import Path

import psycopg2

from harness.gateway import Gateway, until
from harness.postgres import Postgres

KILLS = int(os.environ.get("TRAILGATE_KILLS", "5"))
SEED = int(os.environ.get("TRAILGATE_SEED", "0")) or random.randrange(1, 1 << 31)
PASSWORD = "sesame"
# Each row names the run of the gateway and itself, in parameters that stand in the trail.
PGBENCH = """\\set n random(1, 9000000000000000)
INSERT INTO written (run, who, n) VALUES ({run}, 'pgbench', :n);
"""
LOAD_S = (0.6, 2.0)


class Writer(threading.Thread):
    """Inserts until the connection breaks, and knows which rows were confirmed. With `together` rows come in
    transactions of three, confirmed by their COMMIT."""

    def __init__(self, endpoint, run, number, together):
        super().__init__()
        self.endpoint, self.run_number, self.number, self.together = endpoint, run, number, together
        self.confirmed = []
        self.error = None

    def run(self):
        try:
            connection = psycopg2.connect(self.endpoint.url("orders"))
            connection.autocommit = True
            cursor = connection.cursor()
            n = 0
            while True:
                pending = []
                if self.together:
                    cursor.execute("BEGIN")
                for _ in range(3 if self.together else 1):
                    n += 1
                    row = (self.run_number, f"writer {self.number}", n)
                    cursor.execute("INSERT INTO written (run, who, n) VALUES (%s, %s, %s)", row)
                    pending.append(row)
                if self.together:
                    cursor.execute("COMMIT")
                self.confirmed += pending
        except psycopg2.Error as error:
            self.error = error


class Kill(unittest.TestCase):
    maxDiff = None

    def test_nothing_executed_is_missing_after_a_kill(self):
        print(f"\n{KILLS} kills, TRAILGATE_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        settings = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        with Postgres(settings) as server, Gateway({"journal": {"segment_mib": 1}}) as gateway:
            server.psql(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE orders OWNER app")
            server.psql(
                "CREATE TABLE written (run int, who text, n bigint)",
                "ALTER TABLE written OWNER TO app",
                database="orders",
            )
            gateway.add_target("orders", f"postgres://app:{PASSWORD}@127.0.0.1:{server.port}/orders?sslmode=disable")
            endpoint = gateway.endpoint("writer", gateway.add_agent("writer"))
            confirmed, recovery_s = set(), []
            for run in range(KILLS):
                confirmed |= self.load_and_kill(gateway, endpoint, run, chance)
                # What was on its way when the gateway died may still end at the server.
                until(lambda: server.psql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'") == "0", 30)
                began = time.monotonic()
                gateway.start()
                recovery_s.append(time.monotonic() - began)
                self.assertTrue(gateway.verify()["sound"])
            self.assertEqual(gateway.faults(), [])
            self.assertEqual(gateway.stop(), 0)
            found = gateway.verify()
            self.assertTrue(found["sound"], found)
            self.assertEqual((found["unsealed"], found["payloads"]["missing"]), (0, 0))
            self.compare(server, gateway, confirmed)
            print(f"up again after {max(recovery_s) * 1000:.0f} ms at most", flush=True)

    def load_and_kill(self, gateway, endpoint, run, chance):
        """Rows that were confirmed to the writers in this run."""
        script = Path(gateway.home, "insert.sql")
        script.write_text(PGBENCH.format(run=run))
        mode = chance.choice(["simple", "extended", "prepared"])
        bench = subprocess.Popen(
            ["pgbench", "-n", "-c", "4", "-T", "60", "-M", mode, "-f", script], env=endpoint.environment("orders"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        writers = [Writer(endpoint, run, number, together=number == 2) for number in range(3)]
        try:
            for writer in writers:
                writer.start()
            time.sleep(chance.uniform(*LOAD_S))
            gateway.kill()
            for writer in writers:
                writer.join(30)
            bench.wait(30)
        finally:
            bench.kill()
            bench.wait()
        self.assertTrue(all(writer.confirmed for writer in writers), [writer.error for writer in writers])
        return {row for writer in writers for row in writer.confirmed}

    def compare(self, server, gateway, confirmed):
        rows = [
            tuple(int(part) if part.isdigit() else part for part in line.split("|"))
            for line in server.psql("SELECT run, who, n FROM written", database="orders").splitlines()
        ]
        entries = gateway.objects("trail", "list", "--limit", "100000000", "--kind", "command")
        inserts, commits = {}, {}
        for entry in entries:
            if entry["command"]["verb"] == "INSERT":
                inserts.setdefault(row_of(entry["command"]), []).append(entry["outcome"]["status"])
            elif entry["command"]["verb"] == "COMMIT":
                commits[entry["session"]] = entry["outcome"]["status"]
        sent = [entry["id"] for entry in entries]
        self.assertEqual(len(sent), len(set(sent)), "an entry stands in the trail twice")
        self.assertEqual(len(rows), len(set(rows)))
        self.assertGreater(len(rows), 50 * KILLS, "too little was written to show anything")
        missing = [row for row in rows if row not in inserts]
        self.assertEqual(missing, [], f"{len(missing)} executed commands are not in the trail")
        twice = {row: found for row, found in inserts.items() if len(found) > 1}
        self.assertEqual(twice, {})
        executed = [row for row in rows if inserts[row][0] not in ("ok", "unknown")]
        self.assertEqual(executed, [], "the server has run what the trail says it has not")
        wrong = [row for row in confirmed if inserts.get(row) != ["ok"]]
        self.assertEqual(wrong, [], "confirmed to the client, but not ok in the trail")
        held = set(rows)
        lost = [row for row in confirmed if row not in held]
        self.assertEqual(lost, [], "confirmed to the client, but not at the server")
        # Transactions apart: there an INSERT that went well may have been rolled back.
        claimed = [
            row for row, found in inserts.items() if found == ["ok"] and row[1] != "writer 2" and row not in held
        ]
        self.assertEqual(claimed, [], "ok in the trail, but not at the server")
        unknown = sum(found == ["unknown"] for found in inserts.values())
        print(f"{len(rows)} rows, {len(confirmed)} confirmed to writers, {unknown} INSERTs unknown, 0 lost", flush=True)


def row_of(command):
    """The row that an INSERT makes, from its parameters or its text."""
    values = command["text"].split("VALUES (")[1].rstrip("; )").split(", ")
    values = [command["params"][int(value[1:]) - 1] if value.startswith("$") else value.strip("'") for value in values]
    return int(values[0]), values[1], int(values[2])


if __name__ == "__main__":
    unittest.main()
