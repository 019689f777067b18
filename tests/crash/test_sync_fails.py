"""The disk does not keep what was written: a sync fails. Nothing may run that might be lost, and nobody may be told otherwise."""

import json
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from harness.gateway import Gateway, until
from harness.postgres import Postgres
from harness.raw import Raw, query

REFUSED = "58030"


class Failing(Gateway):
    """A gateway whose syncs of files with a certain text in their path can be made to fail."""

    def __init__(self, library, settings=None):
        super().__init__(settings)
        self.library = library
        self.order = self.home / "fail-sync"

    def environment(self, **more):
        return super().environment(LD_PRELOAD=str(self.library), FAIL_SYNC=str(self.order)) | more

    def fail(self, part):
        # In one step: who looks must not find an order that is not written yet.
        written = self.order.with_suffix(".new")
        written.write_text(part)
        written.rename(self.order)

    def mend(self):
        self.order.unlink()


class SyncFails(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        home = tempfile.TemporaryDirectory(prefix="trailgate-sync-")
        cls.addClassCleanup(home.cleanup)
        cls.library = Path(home.name, "fail_sync.so")
        source = Path(__file__).parent / "fail_sync.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", cls.library, source, "-ldl"], check=True)
        cls.server = cls.enterClassContext(Postgres({"fsync": "off"}))
        cls.server.psql("CREATE ROLE app LOGIN PASSWORD 'sesame'", "CREATE DATABASE orders OWNER app")
        cls.server.psql("CREATE TABLE written (n int)", "ALTER TABLE written OWNER TO app", database="orders")

    def setUp(self):
        self.server.psql("TRUNCATE written", database="orders")
        self.gateway = self.enterContext(Failing(self.library, {"journal": {"segment_mib": 1}}))
        url = f"postgres://app:sesame@127.0.0.1:{self.server.port}/orders?sslmode=disable"
        self.gateway.add_target("orders", url)
        self.endpoint = self.gateway.endpoint("writer", self.gateway.add_agent("writer"))

    def psql(self, statement):
        return subprocess.run(
            ["psql", "-X", "-v", "VERBOSITY=verbose", "-v", "ON_ERROR_STOP=1", "-c", statement],
            env=self.endpoint.environment("orders"), capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def checks(self):
        found = [json.loads(line) for line in self.gateway.try_run("doctor", "--json").stdout.splitlines()]
        return {check["check"]: check for check in found}

    def rows(self):
        return self.server.psql("SELECT n FROM written ORDER BY n", database="orders").split()

    def test_a_journal_that_could_not_be_synced_refuses_until_it_is_opened_anew(self):
        self.assertEqual(self.psql("INSERT INTO written VALUES (1)").returncode, 0)
        session = Raw(self.endpoint, "orders")
        self.addCleanup(session.socket.close)
        self.gateway.fail("/journal/")
        # What changes something waits for the disk, and must not run if that fails.
        session.send(query("INSERT INTO written VALUES (2)"))
        refused = session.error()
        self.assertEqual((refused["S"], refused["C"]), ("FATAL", REFUSED), refused)
        self.assertIn("Nothing runs unrecorded", refused["H"])
        self.assertIn("failed to keep", refused["M"])
        self.assertTrue(session.is_closed())
        # A sync that works again shows nothing: the kernel took the lost pages for written.
        self.gateway.mend()
        for statement in ["INSERT INTO written VALUES (3)", "SELECT 1"]:
            refused = self.psql(statement)
            self.assertNotEqual(refused.returncode, 0, statement)
            self.assertIn("Nothing runs unrecorded", refused.stderr)
        self.assertEqual(self.rows(), ["1"], "what was refused has run")
        problem = self.checks()["journal"]
        self.assertEqual(problem["verdict"], "failed")
        self.assertIn("failed to keep", json.dumps(problem))
        self.assertIn("restart", json.dumps(problem))
        # What it has can be read, but for commands: reading them is an entry, which can't be written.
        refused = self.gateway.try_run("trail", "list")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("failed to keep", refused.stderr)
        self.assertTrue(self.gateway.verify()["sound"])
        self.gateway.stop()
        self.gateway.start()
        self.assertEqual(self.psql("INSERT INTO written VALUES (4)").returncode, 0)
        self.assertEqual(self.rows(), ["1", "4"])
        self.assertEqual(self.gateway.stop(), 0)
        self.assertTrue(self.gateway.verify()["sound"])
        inserts = {entry["command"]["text"][-2]: entry["outcome"]["status"] for entry in self.inserts()}
        self.assertEqual((inserts["1"], inserts["4"]), ("ok", "ok"))
        # The intent of the second was written and not synced: it may be there, as something that nobody knows to have run.
        self.assertIn(inserts.get("2", "unknown"), ("unknown", "cancelled", "error", "denied"))
        self.assertNotIn("3", inserts)

    def inserts(self):
        entries = self.gateway.entries("--kind", "command")
        return [entry for entry in entries if entry["command"]["verb"] == "INSERT"]

    def test_a_sealer_that_can_not_sync_publishes_nothing_and_goes_on_when_it_can(self):
        for part in ["/ledger/", "/vault/"]:
            with self.subTest(part):
                self.gateway.fail(part)
                # Sealing is behind recording: commands go on, and it says why it does not.
                for n in range(3):
                    self.assertEqual(self.psql(f"INSERT INTO written VALUES ({n})").returncode, 0)
                until(lambda: self.checks()["sealer"]["verdict"] == "failed")
                published = self.published()
                self.assertEqual(self.psql("INSERT INTO written VALUES (3)").returncode, 0)
                time.sleep(1)
                self.assertEqual(self.published(), published, "over what the disk does not keep")
                self.gateway.mend()
                until(lambda: self.checks()["sealer"]["verdict"] == "ok", seconds=30)
        self.assertEqual(len(self.inserts()), 8)
        self.assertEqual(self.gateway.stop(), 0)
        found = self.gateway.verify()
        self.assertTrue(found["sound"])
        self.assertEqual(found["unsealed"], 0)

    def published(self):
        return (self.gateway.data / "ledger/checkpoint").read_text()


if __name__ == "__main__":
    unittest.main()
