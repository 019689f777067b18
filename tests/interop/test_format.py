"""docs/ledger-format.md is enough to write a verifier from: python/verify.py was, and agrees with the gateway's own."""

import json
import random
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import psycopg2

from harness.gateway import Gateway
from harness.postgres import Postgres

VERIFIER = Path(__file__).parent / "python" / "verify.py"


def stranger(data):
    """What the verifier says: its counts, or its complaint."""
    done = subprocess.run([sys.executable, VERIFIER, data], capture_output=True, text=True, timeout=300)
    return json.loads(done.stdout) if done.returncode == 0 else None, done.stderr


class Format(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Postgres({"fsync": "off"}) as server:
            cls.gateway = Gateway({"retention": {"output": "90d"}})
            cls.addClassCleanup(cls.gateway.__exit__)
            gateway = cls.gateway.__enter__()
            server.psql("CREATE ROLE app LOGIN PASSWORD 'sesame'", "CREATE DATABASE orders OWNER app")
            gateway.add_target("orders", f"postgres://app:sesame@127.0.0.1:{server.port}/orders?sslmode=disable")
            url = gateway.endpoint("writer", gateway.add_agent("writer")).url("orders")
            for number in range(3):
                work(url, number)
            sessions = [entry["session"] for entry in gateway.entries("--kind", "session.start") if entry["principal"]]
            gateway.run("trail", "erase", sessions[0], "--reason", "asked for")
            gateway.run("trail", "hold", sessions[1], "--reason", "a lawsuit")
            gateway.run("trail", "hold", sessions[2], "--reason", "another")
            gateway.run("trail", "release", sessions[2], "--reason", "settled")
            refused = gateway.try_run("trail", "erase", sessions[1], "--reason", "please")
            assert refused.returncode == 1 and "legal hold" in refused.stderr, refused.stderr
            held = gateway.objects("trail", "holds")[0]["sessions"]
            assert held == [sessions[1]], held
            assert gateway.stop() == 0

    def test_a_stranger_verifies_it(self):
        ours = self.gateway.verify()
        theirs, complaint = stranger(self.gateway.data)
        self.assertIsNotNone(theirs, complaint)
        self.assertGreater(theirs["entries"], 900)
        self.assertEqual(theirs["holds"], 1)
        self.assertEqual(theirs["entries"], ours["entries"])
        self.assertEqual(theirs["sessions"], ours["sessions"])
        self.assertEqual(theirs["erased"], ours["payloads"]["erased"])
        self.assertEqual(theirs["verified"], ours["payloads"]["verified"])
        self.assertGreater(theirs["erased"], 300)

    def test_without_the_node_key_it_verifies_all_but_payloads(self):
        copy = self.gateway.home / "copy"
        shutil.copytree(self.gateway.data, copy, ignore=shutil.ignore_patterns("*.sock", "node.key"))
        theirs, complaint = stranger(copy)
        self.assertIsNotNone(theirs, complaint)
        self.assertEqual(theirs["verified"], 0)
        self.assertGreater(theirs["sealed"], 600)

    def test_it_finds_what_was_changed(self):
        chance = random.Random(7)
        copy = self.gateway.home / "changed"
        shutil.copytree(self.gateway.data, copy, ignore=shutil.ignore_patterns("*.sock"))
        files = [*copy.glob("vault/payload-*"), copy / "vault/index", copy / "vault/keys"]
        files += [copy / "ledger/checkpoint", copy / "ledger/checkpoints", *copy.glob("ledger/tile/entries/[0-9]*")]
        files = [file for file in files if file.is_file()]
        for file in files:
            whole = file.read_bytes()
            for _ in range(3):
                at = chance.randrange(len(whole))
                file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
                theirs, _ = stranger(copy)
                self.assertIsNone(theirs, f"byte {at} of {file.name}")
            file.write_bytes(whole)
        self.assertIsNotNone(stranger(copy)[0])


def work(url, number):
    """A session of 300 commands: with parameters, with text that compresses and text that does not, with errors."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    cursor = connection.cursor()
    for n in range(297):
        cursor.execute("SELECT %s::int + %s", (number, n))
    cursor.execute(f"SELECT length('{'x' * 300_000}')")
    cursor.execute(f"SELECT length('{random.Random(number).randbytes(700_000).hex()}')")
    try:
        cursor.execute("SELECT * FROM nowhere")
    except psycopg2.Error:
        pass
    connection.close()


if __name__ == "__main__":
    unittest.main()
