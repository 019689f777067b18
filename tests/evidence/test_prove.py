"""The proof of one entry: what a stranger can check with and without Trailgate."""

import json
import subprocess
import unittest

from harness.gateway import CommandFailed, Gateway, until
from harness.postgres import Postgres, bin_directory

from house import Verifier, vkey

PASSWORD = "sesame"


class Prove(unittest.TestCase):
    @classmethod
    def tearDownClass(cls):
        Verifier.remove()

    def test_a_proof_shows_the_command_and_nothing_else_passes_for_it(self):
        with Postgres() as server, Gateway() as gateway:
            server.psql(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE orders OWNER app")
            gateway.add_target("orders", f"postgres://app:{PASSWORD}@127.0.0.1:{server.port}/orders?sslmode=disable")
            endpoint = gateway.endpoint("chatgpt", gateway.add_agent("chatgpt"))
            for statement, says in [("SELECT 'proven' AS word", "proven"), ("SELECT 1/0", "division by zero")]:
                done = subprocess.run(
                    [bin_directory() / "psql", "-Xtc", statement], capture_output=True, text=True,
                    env=endpoint.environment("orders"), timeout=60,
                )  # fmt: skip
                self.assertIn(says, done.stdout + done.stderr)
            commands = until(lambda: (found := gateway.entries("--kind", "command")) and len(found) >= 2 and found)
            entry = commands[0]["id"]
            proof = gateway.home / "entry.tlog-proof"
            gateway.run("trail", "prove", entry, "-o", proof)
            found = gateway.objects("trail", "verify", proof, "--vkey", gateway.data / "ledger/log.vkey")[0]
            self.assertEqual(found["entry"], entry)
            self.assertEqual(found["fields"][0]["text"], "SELECT 'proven' AS word")
            self.assertEqual(found["log"], vkey(gateway.data).split("+")[0])
            self.assertIsNotNone(until(lambda: self.in_trail_log(gateway, entry, proof)))
            # The same with Go's packages alone.
            said = Verifier.run("opened", vkey(gateway.data), proof)
            self.assertIn("field 1: SELECT 'proven' AS word\n", said)
            self.assertRegex(said, r"^entry \d+ is in the signed tree of \d+ entries\n")
            # Reading it is an entry.
            reads = [read["event"] for read in gateway.entries("--kind", "trail.read")]
            self.assertIn({"read": "prove", "entry": entry, "payload": True}, reads)

            bare = gateway.home / "bare.tlog-proof"
            gateway.run("trail", "prove", entry, "-o", bare, "--without-payload")
            self.assertNotIn(b"cHJvdmVu", bare.read_bytes(), "no text leaves with it")
            self.assertEqual(gateway.objects("trail", "verify", bare)[0]["fields"], [])

            # Changed in any byte, it does not hold; nor under another log's key.
            sound = proof.read_bytes()
            changed = gateway.home / "changed.tlog-proof"
            found, held = gateway.objects("trail", "verify", proof, "--vkey", gateway.data / "ledger/log.vkey")[0], 0
            for place in range(0, len(sound), max(1, len(sound) // 40)):
                flipped = bytearray(sound)
                flipped[place] ^= 1
                changed.write_bytes(flipped)
                done = gateway.try_run("trail", "verify", changed, "--vkey", gateway.data / "ledger/log.vkey", "--json")
                if done.returncode == 0:
                    # A hint, such as the vkey in it: what is proven stays what it was.
                    self.assertEqual(json.loads(done.stdout), found, f"byte {place}")
                    held += 1
            self.assertLess(held, 10, "most of a proof proves something")
            with self.assertRaises(CommandFailed):
                gateway.run("trail", "verify", proof, "--vkey", gateway.data / "trail-log/log.vkey")
            swapped = gateway.home / "swapped.tlog-proof"
            gateway.run("trail", "prove", commands[1]["id"], "-o", swapped)
            first, second = proof.read_text().split("\n"), swapped.read_text().split("\n")
            second[1] = first[1]
            changed.write_text("\n".join(second))
            with self.assertRaisesRegex(CommandFailed, "does not hold"):
                gateway.run("trail", "verify", changed)
            with self.assertRaisesRegex(AssertionError, "does not hold"):
                Verifier.run("opened", vkey(gateway.data), changed)

            # Erased, the entry is still proven, and its text is gone.
            gateway.run("trail", "erase", commands[0]["session"], "--reason", "asked to")
            gateway.run("trail", "prove", entry, "-o", bare)
            self.assertEqual(gateway.objects("trail", "verify", bare)[0]["fields"], [])
            # Without a gateway, from the files.
            gateway.stop()
            gateway.run("trail", "prove", commands[1]["id"], "-o", proof)
            gateway.run("trail", "verify", proof, "--vkey", vkey(gateway.data))
            with self.assertRaisesRegex(CommandFailed, "there is no entry"):
                gateway.run("trail", "prove", f"{entry[:-1]}999", "-o", proof)

    def in_trail_log(self, gateway, entry, proof):
        gateway.run("trail", "prove", entry, "-o", proof)
        return gateway.objects("trail", "verify", proof)[0]["trail_log"]


if __name__ == "__main__":
    unittest.main()
