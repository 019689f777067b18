"""Who is let in, where they may name what, and what is heard and recorded of those who are not."""

import subprocess
import time
import unittest

from harness import free_port
from harness.gateway import until
from harness.postgres import bin_directory
from harness.raw import Raw, Refused, query
from house import OTHER_PASSWORD, Case

REFUSED = "28P01"


class Doors(Case):
    def databases(self, **options):
        with self.connection(**options) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_database(), current_user")
            return cursor.fetchone()

    def raw_refusal(self, database="orders", user="chatgpt", token=None, **options):
        """The fields of the ErrorResponse that a raw client gets."""
        with self.assertRaises(Refused) as caught:
            Raw(self.endpoint(user, token), database, **options)
        return caught.exception.fields

    # Where to

    def test_the_database_names_the_target(self):
        self.assertEqual(self.databases(database="orders"), ("orders", "app"))

    def test_the_database_names_target_and_database(self):
        self.assertEqual(self.databases(database="orders/archive"), ("archive", "app"))
        self.assertEqual(self.sessions()[0][0]["target"]["database"], "archive")

    def test_the_user_names_the_target(self):
        self.assertEqual(self.databases(user="chatgpt~orders", database="archive"), ("archive", "app"))
        self.assertEqual(self.sessions()[0][0]["principal"]["name"], "chatgpt")

    def test_the_server_name_in_tls_names_the_target(self):
        endpoint = self.endpoint()
        url = f"host=orders.gateway.test hostaddr=127.0.0.1 port={endpoint.port} dbname=archive sslmode=require"
        done = subprocess.run(
            [bin_directory() / "psql", "-XAt", url, "-c", "SELECT current_database()"],
            env=self.environment(), capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual((done.stdout, done.returncode), ("archive\n", 0), done.stderr)

    def test_an_unknown_target(self):
        fields = self.raw_refusal("nowhere")
        self.assertEqual(fields["C"], "3D000")
        self.assertIn("there is no target `nowhere`", fields["M"])
        entry = self.failed_login()
        self.assertIn("there is no target `nowhere`", entry["event"]["reason"])
        self.assertEqual(entry["principal"]["name"], "chatgpt")

    def test_a_database_that_the_target_does_not_have(self):
        said = self.refused(database="orders/missing_database")
        self.assertIn('database "missing_database" does not exist', said)
        self.assertEqual(self.sessions()[0][-1]["event"]["reason"], "target")

    # Who

    def test_a_wrong_token(self):
        token = self.house.agent("mistaken")
        for attempt in (token[:-1], "tg_wrong"):
            self.assertEqual(self.raw_refusal(user="mistaken", token=attempt)["C"], REFUSED)
        entries = until(lambda: len(found := self.entries("--kind", "auth.failed")) == 2 and found)
        for entry in entries:
            self.assertEqual(entry["event"]["claimed"], "mistaken")
            self.assertEqual(entry["event"]["reason"], "the token is wrong")
            self.assertTrue(entry["client"]["addr"].startswith("127.0.0.1:"))

    def test_an_unknown_principal_hears_the_same(self):
        known = self.raw_refusal(token="tg_wrong")
        unknown = self.raw_refusal(user="nobody", token="tg_wrong")
        self.assertEqual(known, unknown, "who guesses names learns nothing")
        entries = until(lambda: len(found := self.entries("--kind", "auth.failed")) == 2 and found)
        self.assertEqual([entry["event"]["claimed"] for entry in entries], ["chatgpt", "nobody"])
        self.assertIn("no principal", entries[1]["event"]["reason"])

    def open(self, user, token, database="orders"):
        """A raw session in TLS: libpq's PQexec, and so psycopg2, drops an error that the connection's end follows."""
        session = Raw(self.endpoint(user, token), database, tls=True, application_name=self.application)
        self.addCleanup(session.socket.close)
        self.assertEqual(session.run("SELECT 'before'"), [b"T", b"D", b"C", b"Z"])
        return session

    def assert_ended_by_the_gateway(self, session):
        fields = session.error()
        self.assertIsNotNone(fields, "the connection ended without a word")
        self.assertEqual(fields["C"], "28000")
        self.assertIn("the gateway has ended this session", fields["M"])
        self.assertTrue(session.is_closed())

    def test_an_expired_token(self):
        token = self.house.agent("brief", "--expires", "2s")
        session = self.open("brief", token)
        began = time.monotonic()
        session.send(query("SELECT pg_sleep(10)"))
        self.assert_ended_by_the_gateway(session)
        self.assertLess(time.monotonic() - began, 6, "an open session ends when its token expires")
        self.assertEqual(self.raw_refusal(user="brief", token=token)["C"], REFUSED)
        self.assertIn("expired", self.failed_login()["event"]["reason"])
        self.assertEqual(self.sessions()[0][-1]["event"]["reason"], "revoked")
        interrupted = self.commands()[-1]
        self.assertEqual(interrupted["command"]["text"], "SELECT pg_sleep(10)")
        self.assert_outcome(interrupted, "unknown", executed=None)

    def ended_by(self, name, token, *change):
        """An open session of `name` ends by a change; the seconds that took."""
        session = self.open(name, token)
        began = time.monotonic()
        self.gateway.run(*change)
        self.assert_ended_by_the_gateway(session)
        took = time.monotonic() - began
        start, before, end = self.sessions()[0]
        self.assertEqual((before["command"]["text"], end["event"]["reason"]), ("SELECT 'before'", "revoked"))
        return took

    def test_rotating_a_token_ends_open_sessions_at_once(self):
        token = self.house.agent("rotated")
        self.assertLess(self.ended_by("rotated", token, "agent", "rotate", "rotated"), 2)
        self.assertEqual(self.raw_refusal(user="rotated", token=token)["C"], REFUSED)
        self.assertIn("revoked", self.failed_login()["event"]["reason"])

    def test_disabling_an_agent(self):
        token = self.house.agent("suspended")
        self.assertLess(self.ended_by("suspended", token, "agent", "disable", "suspended"), 2)
        self.assertEqual(self.raw_refusal(user="suspended", token=token)["C"], REFUSED)
        self.assertIn("disabled", self.failed_login()["event"]["reason"])
        self.gateway.run("agent", "enable", "suspended")
        self.assertEqual(self.databases(user="suspended", token=token), ("orders", "app"))

    def test_disabling_the_person_it_acts_for(self):
        self.house.person("carol")
        token = self.house.agent("helper", "--for", "carol")
        self.assertLess(self.ended_by("helper", token, "person", "disable", "carol"), 2)
        self.assertEqual(self.raw_refusal(user="helper", token=token)["C"], REFUSED)

    def test_removing_a_target_ends_its_sessions(self):
        self.gateway.add_target("shortlived", self.house.target_url())
        session = self.open("chatgpt", None, "shortlived")
        self.gateway.run("target", "remove", "shortlived")
        self.assert_ended_by_the_gateway(session)

    def test_a_busy_session_that_is_revoked_stops_at_the_target_too(self):
        token = self.house.agent("busy")
        busy = subprocess.Popen(
            [bin_directory() / "psql", "-X", "-c", "SELECT pg_sleep(28)"],
            env=self.environment(user="busy", token=token),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.wait_until_runs("pg_sleep(28)")
        self.gateway.run("agent", "disable", "busy")
        said = busy.communicate(timeout=10)[1]
        self.assertIn("the gateway has ended this session", said)
        until(lambda: not self.running("pg_sleep(28)"), seconds=5)

    def test_guessing_is_slowed_down(self):
        # From an address of its own, so that the other tests' is not slowed down.
        refusals = [self.raw_refusal(source="127.9.9.9", user="guessed", token=f"tg_{n}") for n in range(30)]
        self.assertIn("too many failed logins; try again in", refusals[-1]["M"])
        self.assertEqual(refusals[-1]["C"], "28000")
        # Who has logged in from here before is not locked out by that.
        self.assertEqual(self.databases(), ("orders", "app"))
        self.assertLess(len(self.entries("--kind", "auth.failed")), 30, "entries of a flood would help the flood")

    # TLS

    def test_channel_binding_can_be_required(self):
        self.assertEqual(self.databases(sslmode="require", channel_binding="require"), ("orders", "app"))
        self.assertEqual(self.sessions()[0][0]["principal"]["proven_by"], "scram-sha-256-plus")

    def test_the_certificate_can_be_verified(self):
        card = self.gateway.objects("connect", "chatgpt", "orders")[0]
        self.assertEqual(
            self.databases(sslmode="verify-full", sslrootcert=card["ca_file"], channel_binding="require"),
            ("orders", "app"),
        )

    def test_without_tls_on_loopback(self):
        self.assertEqual(self.databases(sslmode="disable"), ("orders", "app"))
        self.assertEqual(self.sessions()[0][0]["principal"]["proven_by"], "scram-sha-256")

    def test_a_token_in_the_clear_needs_tls(self):
        cleartext = "-c trailgate.auth=cleartext"
        self.assertIn("needs TLS", self.refused(sslmode="disable", options=cleartext))
        self.assertEqual(self.databases(sslmode="require", options=cleartext), ("orders", "app"))
        self.assertEqual(self.sessions()[0][0]["principal"]["proven_by"], "token-in-tls")

    # Targets

    def test_a_target_that_is_down(self):
        self.gateway.add_target("away", self.house.target_url(port=free_port()))
        said = self.refused(database="away")
        self.assertIn("target `away` can't be used", said)
        self.assertIn("it can't be reached", said)
        start, end = self.sessions()[0]
        self.assertEqual((start["target"]["name"], end["event"]["reason"]), ("away", "target"))
        self.assertIn("refused", end["event"]["detail"])

    def test_a_target_with_a_wrong_password(self):
        self.gateway.add_target("locked", self.house.target_url(password=OTHER_PASSWORD))
        said = self.refused(database="locked")
        self.assertIn("it refused the target's stored credential", said)
        self.assertIn("Your own token is fine", said)
        self.assertNotIn('"app"', said, "the role is not the client's business")
        fields = self.raw_refusal("locked")
        self.assertEqual(
            fields["C"], "08004", "no SQLSTATE of class 28, which would make a driver ask for another token"
        )


if __name__ == "__main__":
    unittest.main()
