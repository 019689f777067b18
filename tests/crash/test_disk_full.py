"""The trail's disk is full: commands are refused with a clear sentence, and all is well again when there is space."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from harness.gateway import Gateway, until
from harness.postgres import Postgres
from harness.raw import Raw, Refused, query

SIZE_MIB = 24
NO_SPACE = "58030"
# How many refusals in a row mean that the disk is full, and not only short of space for a moment.
REFUSALS = 5


class DiskFull(unittest.TestCase):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("a file system of its own can be mounted by root only")
        self.disk = Path(tempfile.mkdtemp(prefix="trailgate-disk-"))
        self.addCleanup(shutil.rmtree, self.disk, ignore_errors=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", self.disk], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.disk], check=False)

    def test_commands_are_refused_and_it_heals(self):
        settings = {"journal": {"segment_mib": 1}}
        with Postgres({"fsync": "off"}) as server, Gateway(settings, data=self.disk / "data") as gateway:
            server.psql("CREATE ROLE app LOGIN PASSWORD 'sesame'", "CREATE DATABASE orders OWNER app")
            server.psql(
                "CREATE TABLE written (n int, filler text)", "ALTER TABLE written OWNER TO app", database="orders"
            )
            gateway.add_target("orders", f"postgres://app:sesame@127.0.0.1:{server.port}/orders?sslmode=disable")
            endpoint = gateway.endpoint("writer", gateway.add_agent("writer"))
            self.assertTrue(all(self.works(endpoint) for _ in range(5)))
            # What is sealed before the disk is full can be read while it is.
            until(lambda: gateway.objects("trail", "list", "--kind", "command", "--limit", "3"), seconds=20, pause=0.2)
            confirmed = 5 + self.write_until_refused(endpoint, self.fill())
            # Reading the trail goes on.
            self.assertTrue(gateway.objects("trail", "list", "--kind", "command", "--limit", "3"))
            self.assertEqual(self.checks(gateway)["disk space"], "failed")
            executed = int(server.psql("SELECT count(*) FROM written", database="orders"))
            self.assertGreaterEqual(executed, confirmed)

            self.ballast.unlink()
            until(lambda: self.works(endpoint), seconds=20, pause=0.2)
            self.assertIsNone(gateway.process.poll(), "it heals by itself, without a restart")
            until(lambda: self.checks(gateway).get("sealer") == "ok", seconds=20, pause=0.2)
            self.assertEqual(self.checks(gateway)["journal"], "ok")
            self.assertEqual(gateway.faults(), [])
            self.assertEqual(gateway.stop(), 0)
            found = gateway.verify()
            self.assertTrue(found["sound"], found)
            inserts = [
                entry["outcome"]["status"]
                for entry in gateway.objects("trail", "list", "--limit", "1000000", "--kind", "command")
                if entry["command"]["verb"] == "INSERT"
            ]
            self.assertLessEqual(executed, inserts.count("ok") + inserts.count("unknown"), "something ran unrecorded")

    def fill(self):
        """Takes all space but some; the function that takes the rest."""
        self.ballast = self.disk / "ballast"
        with open(self.ballast, "wb") as file:
            free = os.statvfs(self.disk)
            file.write(b"\0" * max(0, free.f_bavail * free.f_bsize - (2 << 20)))

        def take_the_rest():
            with open(self.ballast, "ab", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 4096)
                except OSError:
                    pass

        return take_the_rest

    def write_until_refused(self, endpoint, take_the_rest):
        """How many INSERTs were confirmed before nothing went through any more, old sessions and new ones alike."""
        confirmed, in_a_row, session = 0, 0, None
        deadline = time.monotonic() + 90
        while in_a_row < REFUSALS:
            self.assertLess(time.monotonic(), deadline, f"{confirmed} commands went through with a full disk")
            # Sealed segments of the journal are retired, which gives some space back.
            take_the_rest()
            try:
                session = session or Raw(endpoint, "orders")
                # What does not compress takes the most space.
                session.send(query(f"INSERT INTO written VALUES ({confirmed}, '{os.urandom(30_000).hex()}')"))
                fields = session.error_or_ready()
            except Refused as refused:
                fields = refused.fields
            if fields is None:
                confirmed, in_a_row = confirmed + 1, 0
                continue
            self.assertEqual((fields["S"], fields["C"]), ("FATAL", NO_SPACE), fields)
            self.assertIn("Nothing runs unrecorded", fields["H"])
            in_a_row += 1
            if session:
                session.socket.close()
                session = None
        return confirmed

    def checks(self, gateway):
        """What `trailgate doctor` says, by check."""
        found = [json.loads(line) for line in gateway.try_run("doctor", "--json").stdout.splitlines()]
        return {check["check"]: check["verdict"] for check in found}

    def works(self, endpoint):
        done = subprocess.run(
            ["psql", "-X", "-c", "INSERT INTO written VALUES (0, 'healed')"], env=endpoint.environment("orders"),
            capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode == 0


if __name__ == "__main__":
    unittest.main()
