"""tokio-postgres, which pipelines whatever is asked at the same time; its half of the test is tokio_postgres.rs."""

import subprocess
import unittest

from harness import REPOSITORY
from house import Case


class TokioPostgres(Case):
    def test_the_driver_and_the_trail_agree(self):
        url = self.endpoint().url("orders") + f"?sslmode=disable&application_name={self.application}"
        done = subprocess.run(
            ["cargo", "test", "--quiet", "--workspace", "--test", "tokio_postgres", "--", "--ignored", "--test-threads", "1"],
            cwd=REPOSITORY, env=self.environment(E2E_URL=url), capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        commands = self.commands(4)
        doubled = [entry for entry in commands if "* 2" in entry["command"]["text"]]
        self.assertEqual([entry["command"]["params"] for entry in doubled], [[str(n)] for n in range(200)])
        for entry in doubled:
            self.assert_outcome(entry, "ok", rows=1)
        by_text = {entry["command"]["text"]: entry for entry in commands}
        self.assert_outcome(by_text["SELECT 'before'"], "ok", rows=1)
        self.assert_outcome(by_text["SELECT 1 / $1::int4"], "error", code="22012")
        self.assert_outcome(by_text["SELECT 'after'"], "ok", rows=1)
        self.assert_outcome(by_text["COPY numbers FROM STDIN"], "ok", rows=3)
        self.assert_outcome(by_text["SELECT n FROM numbers ORDER BY n"], "ok", rows=3)
        self.assert_outcome(by_text["COPY numbers TO STDOUT"], "ok", rows=3)
        self.assert_outcome(by_text["SELECT pg_sleep(20)"], "cancelled", code="57014")


if __name__ == "__main__":
    unittest.main()
