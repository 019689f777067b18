"""What the end-to-end tests share: one PostgreSQL, one gateway before it, an agent `chatgpt` that acts for `alice`.

Both come up with the first test and go down after the last one (`test_when_all_is_done.py` looks at what they left).
"""

import atexit
import functools
import subprocess
import unittest
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg2

from harness.gateway import Gateway, until
from harness.postgres import Postgres, bin_directory

# What must never be seen outside the gateway. Distinctive, so that a search finds it anywhere.
TARGET_PASSWORD = "Sesame-7kQ2vXw9-target"
OTHER_PASSWORD = "Sesame-4mP8tRz3-wrong"
# Durability of the throwaway server is not what is tested.
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "log_statement": "none"}

COMMAND = {"id", "kind", "at", "duration_us", "session", "seq", "node", "principal", "client", "target", "command",
           "decision", "outcome", "leaf"}  # fmt: skip


class House:
    """Server, gateway, and every token that was handed out."""

    def __init__(self):
        self.server = Postgres(FAST | {"wal_level": "replica"})
        self.gateway = Gateway()
        self.tokens = []

    def open(self):
        self.server.__enter__()
        self.server.psql(
            f"CREATE ROLE app LOGIN PASSWORD '{TARGET_PASSWORD}'",
            "CREATE DATABASE orders OWNER app",
            "CREATE DATABASE archive OWNER app",
        )
        self.gateway.__enter__()
        self.gateway.add_target("orders", self.target_url())
        self.person("alice")
        self.agent_token = self.agent("chatgpt", "--for", "alice")
        return self

    def close(self):
        self.gateway.__exit__()
        self.server.__exit__()

    def target_url(self, database="orders", password=TARGET_PASSWORD, port=None, query="sslmode=disable"):
        return f"postgres://app:{password}@127.0.0.1:{port or self.server.port}/{database}?{query}"

    def agent(self, name, *options, kind="agent"):
        token = self.gateway.add_agent(name, *options, kind=kind)
        self.tokens.append(token)
        return token

    def person(self, name, *options):
        return self.agent(name, *options, kind="person")


@functools.cache
def house():
    opened = House()
    atexit.register(opened.close)
    return opened.open()


class Case(unittest.TestCase):
    """Each test has a name of its own for the sessions it opens (`application_name`), and finds them by it."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.house = house()
        cls.gateway = cls.house.gateway
        cls.server = cls.house.server

    def setUp(self):
        self.application = self.id().rsplit(".", 1)[-1][:60]
        self.since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    # Clients

    def endpoint(self, user="chatgpt", token=None):
        return self.gateway.endpoint(user, token or self.house.agent_token)

    def environment(self, database="orders", user="chatgpt", token=None, **more):
        kept = self.endpoint(user, token).environment(database)
        return kept | {"PGAPPNAME": self.application, "PGCONNECT_TIMEOUT": "20"} | more

    def psql(self, *commands, script=None, arguments=(), **environment):
        """psql with each of `commands` as -c, or with `script` on its standard input."""
        given = [argument for command in commands for argument in ("-c", command)]
        return subprocess.run(
            [bin_directory() / "psql", "-X", *arguments, *given],
            env=self.environment(**environment), input=script, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    @contextmanager
    def connection(self, database="orders", user="chatgpt", token=None, autocommit=True, **options):
        endpoint = self.endpoint(user, token)
        made = psycopg2.connect(
            host=endpoint.host, port=endpoint.port, user=endpoint.user, password=endpoint.password, dbname=database,
            **{"application_name": self.application, "connect_timeout": 20} | options,
        )  # fmt: skip
        made.autocommit = autocommit
        try:
            yield made
        finally:
            made.close()

    def refused(self, **options):
        """What a client hears whose connection is refused."""
        with self.assertRaises(psycopg2.OperationalError) as caught, self.connection(**options):
            pass
        return str(caught.exception)

    # The trail

    def entries(self, *filters):
        """Entries since the test began, oldest first."""
        return self.gateway.entries("--since", self.since, *filters)

    def sessions(self, count=1, ended=True):
        """Entries of each of the test's sessions, once there are `count` and they have ended."""

        def found():
            sessions = {}
            for entry in self.entries():
                if (entry["client"] or {}).get("application") == self.application and entry["kind"] != "auth.failed":
                    sessions.setdefault(entry["session"], []).append(entry)
            done = [entries for entries in sessions.values() if entries[-1]["kind"] == "session.end" or not ended]
            return len(done) >= count and list(sessions.values())

        return until(found)

    def commands(self, sessions=1):
        """The commands of the test's sessions, in order."""
        every = sorted(
            (entry for session in self.sessions(sessions) for entry in session), key=lambda entry: entry["at"]
        )
        return [entry for entry in every if entry["kind"] == "command"]

    def one_command(self):
        commands = self.commands()
        self.assertEqual(len(commands), 1, [entry["command"]["text"] for entry in commands])
        return commands[0]

    def assert_outcome(self, entry, status, rows=None, code=None, executed=True):
        outcome = entry["outcome"]
        found = (outcome["status"], outcome["rows"], outcome["code"], outcome["executed"])
        self.assertEqual(found, (status, rows, code, executed), f"{entry['command']['text']}: {outcome}")

    def failed_login(self):
        """The one auth.failed entry since the test began."""
        found = until(lambda: self.entries("--kind", "auth.failed"))
        self.assertEqual(len(found), 1, found)
        return found[0]

    def running(self, text):
        """Process ids of the backends that run a query with `text` in it."""
        running = f"state = 'active' AND query LIKE '%{text}%' AND pid <> pg_backend_pid()"
        return self.server.psql(f"SELECT pid FROM pg_stat_activity WHERE {running}").split()

    def wait_until_runs(self, text):
        """The backend that runs such a query, once there is one."""
        return int(until(lambda: self.running(text))[0])
