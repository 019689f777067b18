"""Runs last, by its name: what all the other tests have left behind."""

import unittest

from house import OTHER_PASSWORD, TARGET_PASSWORD, Case


class WhenAllIsDone(Case):
    def test_no_secret_is_anywhere(self):
        """Neither in the data directory, nor in a log, nor in anything that the trail shows."""
        self.assertEqual(self.psql("SELECT 1").returncode, 0)
        secrets = {secret: secret.encode() for secret in [TARGET_PASSWORD, OTHER_PASSWORD, *self.house.tokens]}
        # A token without its prefix and checksum is as good as the whole.
        secrets |= {token + " (part)": token[3:-6].encode() for token in self.house.tokens}
        shown = self.gateway.run("trail", "list", "--json", "--limit", "10000").encode()
        shown += self.gateway.run("trail", "list", "--limit", "10000").encode()
        places = {"the trail": shown, "the gateway's log": self.gateway.log.read_bytes()}
        places |= {
            str(path.relative_to(self.gateway.data)): path.read_bytes()
            for path in self.gateway.data.rglob("*")
            if path.is_file()
        }
        self.assertIn("control.db", places)
        for name, secret in secrets.items():
            for place, content in places.items():
                self.assertFalse(secret in content, f"{name[:12]}… stands in {place}")

    def test_the_log_tells_of_no_fault(self):
        self.assertEqual(self.gateway.faults(), [])

    def test_the_files_are_private(self):
        self.assertEqual(self.gateway.data.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.gateway.data.joinpath("node.key").stat().st_mode & 0o777, 0o600)

    def test_the_whole_trail_verifies_and_has_no_gap(self):
        found = self.gateway.verify()
        self.assertTrue(found["sound"], found)
        self.assertEqual((found["payloads"]["missing"], found["problems"]), (0, 0))
        sessions = {}
        for entry in self.gateway.entries():
            sessions.setdefault(entry["session"], []).append(entry)
        self.assertTrue(sessions)
        for entries in sessions.values():
            # A command that runs long has two entries of the same number.
            numbers = sorted({entry["seq"] for entry in entries if entry["kind"] != "command.started"})
            if entries[-1]["kind"] == "session.end":
                self.assertEqual(numbers, list(range(1, entries[-1]["event"]["entries"] + 1)), entries[0]["id"])


if __name__ == "__main__":
    unittest.main()
