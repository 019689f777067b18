"""kill -9 in the middle of writing, again and again: no executed command without an entry, none twice, nothing
lost but what a write that is cut between two pages may leave.

TRAILGATE_KILLS is how often it is killed in all (200 by default; also the argument of `run`), spread over the configurations
below, two of them at a time so that they are in each other's way. After each kill the gateway starts over the same data; then
what the server holds of that run is compared with what the trail says of it, and the trail is verified. In the end all of it
is compared again: every row has its INSERT, every INSERT that a client saw confirmed is `ok`, and every one that the trail
calls `ok` is a row.
"""

import datetime
import os
import random
import subprocess
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg2

from harness.gateway import MOST_ENTRIES, Gateway, until
from harness.postgres import Postgres
from harness.processes import Sealer

KILLS = int(os.environ.get("TRAILGATE_KILLS", "200"))
SEED = int(os.environ.get("TRAILGATE_SEED", "0")) or random.randrange(1, 1 << 31)
PASSWORD = "sesame"
SMALL = {"journal": {"segment_mib": 1}}
CONFIGURATIONS = {
    "small segments": SMALL,
    "a sealer of its own": SMALL | {"sealer": {"run": "external"}},
    "everything waits for the disk": {"journal": {"segment_mib": 1, "reads": "power"}},
    "as it comes": {},
}
# A directory is used for so many kills at most: what is verified after each grows with it.
KILLS_PER_DIRECTORY = 25
AT_ONCE = 2
# Each row names the run of the gateway and itself, in parameters that stand in the trail.
PGBENCH = """\\set n random(1, 9000000000000000)
INSERT INTO written (run, who, n) VALUES ({run}, 'pgbench', :n);
"""
# Once every writer has had a row confirmed. A kill wants moments, not amounts: many short runs find more than few long ones.
LOAD_S = (0.0, 0.1)
TRANSACTIONS = "writer 2"
UNFINISHED = "an unfinished tail of the journal"
PAGE = 4096
# What is left of a torn frame is counted to its last byte that is not zero; so many may be before the page's end.
ZEROS = 32


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


class Victim:
    """One data directory, killed `kills` times."""

    def __init__(self, case, name, kills, seed):
        self.case, self.name, self.kills = case, name, kills
        self.chance = random.Random(seed)
        self.confirmed, self.recovery_s, self.rows, self.unknown = set(), [], 0, 0

    def run(self):
        settings = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        with ExitStack() as stack:
            self.server = stack.enter_context(Postgres(settings))
            self.gateway = gateway = stack.enter_context(Gateway(CONFIGURATIONS[self.name]))
            is_apart = "sealer" in CONFIGURATIONS[self.name]
            self.sealer = stack.enter_context(Sealer(gateway)) if is_apart else None
            self.prepare()
            stack.callback(self.watch.close)
            for run in range(self.kills):
                self.kill_once(run)
            self.case.assertEqual(gateway.faults(), [])
            # A sealer of its own goes on for a moment; in the end all is sealed.
            until(lambda: gateway.verify()["unsealed"] == 0, 30)
            self.case.assertEqual(gateway.stop(), 0)
            found = gateway.verify()
            self.case.assertEqual((found["unsealed"], found["payloads"]["missing"]), (0, 0))
            self.compare_all()
            # Linux may end a write between two pages when its process is killed. Nobody was told that it was recorded; that
            # something was begun there is said, and nothing else may be missing.
            gaps = [entry["event"] for entry in gateway.entries("--kind", "gap")]
            elsewhere = [gap for gap in gaps if gap["lost"] != UNFINISHED or -(gap["offset"] + gap["bytes"]) % PAGE > ZEROS]
            self.case.assertEqual(elsewhere, [], "lost by a kill, and not where a write can end")
        return self

    def prepare(self):
        self.server.psql(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE orders OWNER app")
        self.server.psql(
            "CREATE TABLE written (run int, who text, n bigint)",
            "CREATE INDEX ON written (run)",
            "ALTER TABLE written OWNER TO app",
            database="orders",
        )
        url = f"postgres://app:{PASSWORD}@127.0.0.1:{self.server.port}/orders?sslmode=disable"
        self.gateway.add_target("orders", url)
        self.endpoint = self.gateway.endpoint("writer", self.gateway.add_agent("writer"))
        self.watch = psycopg2.connect(self.server.endpoint().url("orders"))
        self.watch.autocommit = True

    def kill_once(self, run):
        since = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        confirmed = self.load_and_kill(run)
        # What was on its way when the gateway died may still end at the server.
        until(lambda: self.ask("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'") == [(0,)], 30, pause=0.005)
        began = time.monotonic()
        if self.gateway.process.poll() is not None:
            self.gateway.start()
        if self.sealer and self.sealer.process.poll() is not None:
            self.sealer.start()
        self.recovery_s.append(time.monotonic() - began)
        rows = self.ask("SELECT run, who, n FROM written WHERE run = %s", run)
        self.case.assertTrue(self.gateway.verify()["sound"])
        self.compare(rows, inserts_of(self.commands_since(since), run), confirmed)
        self.confirmed |= confirmed

    def commands_since(self, since):
        """One answer has so many entries at most; where that is not enough, each session is asked for."""
        listed = self.gateway.entries("--kind", "command", "--since", since)
        if len(listed) < MOST_ENTRIES:
            return listed
        begun = self.gateway.entries("--kind", "session.start", "--since", since)
        sessions = {entry["session"] for entry in begun}
        by_session = [self.gateway.entries("--kind", "command", "--session", session) for session in sessions]
        self.case.assertLess(max(map(len, by_session)), MOST_ENTRIES, "more was written than one answer holds")
        return [entry for entries in by_session for entry in entries]

    def load_and_kill(self, run):
        """Rows that were confirmed to the writers in this run."""
        script = Path(self.gateway.home, "insert.sql")
        script.write_text(PGBENCH.format(run=run))
        mode = self.chance.choice(["simple", "extended", "prepared"])
        bench = subprocess.Popen(
            ["pgbench", "-n", "-c", "2", "-T", "60", "-M", mode, "-f", script],
            env=self.endpoint.environment("orders"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        writers = [Writer(self.endpoint, run, number, together=number == 2) for number in range(3)]
        try:
            for writer in writers:
                writer.start()
            until(lambda: all(writer.confirmed or writer.error for writer in writers), 30, pause=0.005)
            time.sleep(self.chance.uniform(*LOAD_S))
            # A sealer of its own may die before the gateway, or alone; then the gateway stops in order, which ends the load.
            if self.sealer and self.chance.random() < 0.6:
                self.sealer.kill()
            if self.sealer and self.sealer.process.poll() is not None and self.chance.random() < 0.3:
                self.gateway.stop()
            else:
                self.gateway.kill()
            for writer in writers:
                writer.join(30)
            bench.wait(30)
        finally:
            bench.kill()
            bench.wait()
        self.case.assertTrue(all(writer.confirmed for writer in writers), [writer.error for writer in writers])
        return {row for writer in writers for row in writer.confirmed}

    def ask(self, question, *values):
        with self.watch.cursor() as cursor:
            cursor.execute(question, values)
            return cursor.fetchall()

    def compare(self, rows, inserts, confirmed):
        """What the server holds, what the trail says, and what clients were told."""
        case, held = self.case, set(rows)
        case.assertEqual(len(rows), len(held), "the server has run a command twice")
        missing = [row for row in rows if row not in inserts]
        case.assertEqual(missing, [], f"{self.name}: {len(missing)} executed commands are not in the trail")
        twice = {row: found for row, found in inserts.items() if len(found) > 1}
        case.assertEqual(twice, {}, self.name)
        executed = [row for row in rows if inserts[row][0] not in ("ok", "unknown")]
        case.assertEqual(executed, [], "the server has run what the trail says it has not")
        wrong = [row for row in confirmed if inserts.get(row) != ["ok"]]
        case.assertEqual(wrong, [], "confirmed to the client, but not ok in the trail")
        lost = [row for row in confirmed if row not in held]
        case.assertEqual(lost, [], "confirmed to the client, but not at the server")
        # Transactions apart: there an INSERT that went well may have been rolled back.
        found_ok = (row for row, found in inserts.items() if found == ["ok"] and row[1] != TRANSACTIONS)
        claimed = [row for row in found_ok if row not in held]
        case.assertEqual(claimed, [], "ok in the trail, but not at the server")

    def compare_all(self):
        rows = self.ask("SELECT run, who, n FROM written")
        entries = self.gateway.objects("trail", "list", "--limit", "100000000", "--kind", "command")
        sent = [entry["id"] for entry in entries]
        self.case.assertEqual(len(sent), len(set(sent)), "an entry stands in the trail twice")
        inserts = inserts_of(entries)
        self.compare(rows, inserts, self.confirmed)
        self.case.assertGreater(len(rows), 10 * self.kills, "too little was written to show anything")
        self.rows = len(rows)
        self.unknown = sum(found == ["unknown"] for found in inserts.values())


class Kill(unittest.TestCase):
    maxDiff = None

    def test_nothing_executed_is_missing_after_a_kill(self):
        print(f"\n{KILLS} kills, TRAILGATE_SEED={SEED}", flush=True)
        chance, left, victims = random.Random(SEED), KILLS, []
        share = min(KILLS_PER_DIRECTORY, -(-KILLS // len(CONFIGURATIONS)))
        while left > 0:
            for name in CONFIGURATIONS:
                kills = min(left, share)
                left -= kills
                if kills > 0:
                    victims.append(Victim(self, name, kills, chance.random()))
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            runs = [pool.submit(victim.run) for victim in victims]
            try:
                for done in runs:
                    victim = done.result()
                    print(
                        f"{victim.name}: {victim.kills} kills, {victim.rows} rows, {len(victim.confirmed)} confirmed to writers, "
                        f"{victim.unknown} INSERTs unknown, 0 lost; up again after {max(victim.recovery_s) * 1000:.0f} ms at most",
                        flush=True,
                    )
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        minutes = (time.monotonic() - began) / 60
        print(f"{KILLS} kills in {minutes:.1f} minutes, {KILLS / minutes:.0f} a minute, 0 lost", flush=True)


def inserts_of(entries, run=None):
    """Statuses of INSERTs by the row that each makes, of one run or of all."""
    inserts = {}
    for entry in entries:
        if entry["command"]["verb"] == "INSERT":
            row = row_of(entry["command"])
            if run is None or row[0] == run:
                inserts.setdefault(row, []).append(entry["outcome"]["status"])
    return inserts


def row_of(command):
    """The row that an INSERT makes, from its parameters or its text."""
    values = command["text"].split("VALUES (")[1].rstrip("; )").split(", ")
    values = [command["params"][int(value[1:]) - 1] if value.startswith("$") else value.strip("'") for value in values]
    return int(values[0]), values[1], int(values[2])


if __name__ == "__main__":
    unittest.main()
