"""A local forwarding to what a PostgreSQL target of the gateway serves: its commands are recorded as commands."""

import subprocess
import unittest

from harness import Endpoint, free_port, stop
from harness.postgres import PASSWORD, Postgres, bin_directory
from house import House, mark, until


class Join(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Postgres()
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__)
        cls.house = House()
        cls.house.__enter__()
        cls.addClassCleanup(cls.house.__exit__)
        run = cls.house.gateway.run
        run("target", "add", "orders", f"postgres://postgres:{PASSWORD}@localhost:{cls.server.port}/postgres?sslmode=disable")
        run("target", "add", "open1", cls.house.sshd.url(), "--allow=local-forward")

    def psql(self, there, text):
        here = free_port()
        forwarding = self.house.popen("-N", options=("-o", "User=open1", "-L", f"{here}:{there}:{self.server.port}"))
        try:
            environment = Endpoint("127.0.0.1", here, "chatgpt", self.house.token).environment("orders")
            command = [bin_directory() / "psql", "-XAtc", text]
            return until(lambda: (done := subprocess.run(command, env=environment, capture_output=True, check=False))
                         and done.returncode == 0 and done.stdout)  # fmt: skip
        finally:
            stop(forwarding)

    def test_its_commands_are_entries(self):
        # Named like the target, by its address, and in other ways in which the session's target may call itself.
        for there in ("localhost", "127.0.0.1", "127.0.0.2", "localhost.", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"):
            text = f"SELECT '{mark()}'"
            self.assertIn(text[8:-1].encode(), self.psql(there, text))
            entry = self.house.entry(text)
            self.assertEqual((entry["target"]["name"], entry["principal"]["name"]), ("orders", "chatgpt"))
            forwarded = until(
                lambda where=there.strip("[]"): [e for e in self.house.entries("--kind", "command", "--grep", f"local:{where}:{self.server.port}")
                                     if e["outcome"]["bytes_in"]]
            )  # fmt: skip
            self.assertIn("orders", forwarded[0]["outcome"]["message"])
