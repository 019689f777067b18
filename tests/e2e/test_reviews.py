"""Commands that wait for people, and those that are refused: with psql, psycopg2 and a raw client, before a real server.

A gateway of its own, since the policy is the gateway's. The table `carts` is filled anew for each test.
"""

import hashlib
import hmac
import http.server
import json
import re
import subprocess
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime

import psycopg2
from harness.gateway import CommandFailed, Gateway, until
from harness.postgres import bin_directory
from harness.raw import SYNC, Raw, bind, execute, fields, message, parse, query
from house import house

POLICY = """
@id("flow") permit (principal, action, resource);

@id("ask-delete") @review("dba") @advice("wait for a dba, then run it again")
forbid (principal, action == Action::"write", resource) when { context.verb == "DELETE" };

@id("ask-two") @review("dba") @approvals("2") @note("required")
forbid (principal, action == Action::"write", resource) when { context.verb == "UPDATE" };

@id("quick") @review("dba") @hold_for("1s")
forbid (principal, action == Action::"define", resource) when { context.verb == "CREATE TABLE" };

@id("never") @advice("ask for an archive instead")
forbid (principal, action == Action::"define", resource) when { context.verb == "DROP TABLE" };
"""


class Reviews(unittest.TestCase):
    maxDiff = None
    settings = {"review": {"hold_for_s": 30, "hold_for_in_transaction_s": 2}}
    policy = POLICY

    @classmethod
    def setUpClass(cls):
        cls.house = house()
        cls.server = cls.house.server
        cls.gateway = Gateway(cls.settings)
        cls.gateway.__enter__()
        cls.addClassCleanup(cls.gateway.__exit__)
        cls.gateway.add_target("orders", cls.house.target_url())
        cls.tokens = {
            name: cls.gateway.add_agent(name, *options, kind=kind)
            for name, kind, options in [
                ("alice", "person", ("--group", "dba")),
                ("bob", "person", ("--group", "dba")),
                ("carol", "person", ("--group", "dba")),
                ("eve", "person", ("--role", "reviewer")),
                ("bot", "agent", ("--for", "alice")),
                ("other", "agent", ("--for", "alice")),
            ]
        }
        cls.apply(cls.policy)

    @classmethod
    def apply(cls, text):
        path = cls.gateway.home / "policy.cedar"
        path.write_text(text)
        cls.gateway.run("policy", "apply", path)

    def setUp(self):
        self.server.psql(
            "DROP TABLE IF EXISTS carts, made", "CREATE TABLE carts (id int)", "INSERT INTO carts SELECT generate_series(1, 10)",
            "GRANT ALL ON carts TO app", "GRANT ALL ON SCHEMA public TO app", database="orders",
        )  # fmt: skip
        self.since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    # Clients

    def environment(self, user="bot"):
        return self.gateway.endpoint(user, self.tokens[user]).environment("orders") | {"PGAPPNAME": self.id().rsplit(".", 1)[-1]}

    def psql(self, *commands, user="bot", wait=True):
        given = [argument for command in commands for argument in ("-c", command)]
        process = subprocess.Popen(
            [bin_directory() / "psql", "-X", "-v", "VERBOSITY=verbose", *given], env=self.environment(user),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(process.kill)
        return self.ended(process) if wait else process

    def ended(self, process):
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def connect(self, user="bot"):
        made = psycopg2.connect(host="127.0.0.1", port=self.gateway.port, user=user, password=self.tokens[user], dbname="orders")
        self.addCleanup(made.close)
        made.autocommit = True
        return made

    def connects(self, user):
        try:
            return self.connect(user)
        except psycopg2.OperationalError:
            return None

    def raw(self, user="bot"):
        session = Raw(self.gateway.endpoint(user, self.tokens[user]), "orders")
        self.addCleanup(session.socket.close)
        return session

    def rows(self):
        return int(self.server.psql("SELECT count(*) FROM carts", database="orders"))

    # Reviewers

    def pending(self, count=1):
        """Pending reviews, oldest first, once there are `count`."""
        found = until(lambda: len(all := self.gateway.objects("review", "list", "--state", "pending")) >= count and all)
        return found[::-1]

    def as_person(self, name):
        return {"TRAILGATE_URL": f"http://127.0.0.1:{self.gateway.web_port}", "TRAILGATE_TOKEN": self.tokens[name]}

    def approve(self, review, by="bob", *options):
        return self.gateway.run("review", "approve", review, *options, **self.as_person(by))

    def state(self, review):
        return self.gateway.objects("review", "show", review)[0]["state"]

    def finish(self):
        """No review of this test stays pending."""
        for review in self.gateway.objects("review", "list", "--state", "pending"):
            self.gateway.run("review", "deny", review["id"])

    def commands(self, text):
        """Entries of commands with that text, since the test began, oldest first, once there is one."""
        def found():
            entries = self.gateway.entries("--since", self.since, "--kind", "command")
            return [entry for entry in entries if text in (entry["command"]["text"] or "")]

        return until(found)

    def steps(self, review):
        events = self.gateway.entries("--since", self.since, "--kind", "review.decided")
        return [entry["event"]["step"] for entry in events if entry["event"]["review"] == review]


class Held(Reviews):
    def test_an_approval_lets_the_command_run(self):
        waiting = self.psql("DELETE FROM carts WHERE id = 1", wait=False)
        review = self.pending()[0]
        self.assertTrue(review["held"])
        self.assertEqual((review["command"], review["principal"], review["on_behalf_of"]), ("DELETE FROM carts WHERE id = 1", "bot", "alice"))
        self.assertEqual(self.rows(), 10)
        self.approve(review["id"])
        code, out, err = self.ended(waiting)
        self.assertEqual((code, out), (0, "DELETE 1\n"), err)
        self.assertIn(f"held for review {review['id']}", err)
        self.assertIn(f"/reviews/{review['id']}", err)
        entry = self.commands("DELETE FROM carts WHERE id = 1")[0]
        self.assertEqual((entry["decision"]["effect"], entry["decision"]["review"]), ("permit", review["id"]))
        self.assertEqual((entry["outcome"]["status"], entry["outcome"]["rows"]), ("ok", 1))
        requested = self.gateway.entries("--since", self.since, "--kind", "review.requested")
        self.assertEqual([entry["event"]["review"] for entry in requested], [review["id"]])
        self.assertEqual(sorted(self.steps(review["id"])), ["granted", "used"])
        self.assertEqual(self.state(review["id"]), "used")

    def test_the_prepared_statement_of_a_driver_waits_too(self):
        session = self.raw()
        session.send(parse("", "DELETE FROM carts WHERE id = $1", 23), bind("", "", b"2"), execute(), SYNC)
        review = self.pending()[0]
        self.assertEqual(review["params"], ["2"])
        self.approve(review["id"])
        tags = [tag for tag, _ in session.answers()]
        self.assertEqual([tag for tag in tags if tag != b"N"], [b"1", b"2", b"C", b"Z"])
        self.assertEqual(self.rows(), 9)

    def test_a_denial_says_who_and_why(self):
        waiting = self.psql("DELETE FROM carts", wait=False)
        review = self.pending()[0]["id"]
        self.gateway.run("review", "deny", review, "--note", "not all of them", **self.as_person("bob"))
        code, _, err = self.ended(waiting)
        self.assertEqual(code, 1)
        for said in ("42501", "denied by bob", "not all of them", review):
            self.assertIn(said, err)
        entry = self.commands("DELETE FROM carts")[0]
        self.assertEqual((entry["outcome"]["status"], entry["outcome"]["executed"], entry["decision"]["review"]), ("denied", False, review))
        self.assertEqual(self.rows(), 10)

    def test_nobody_approves_their_own_and_agents_approve_nothing(self):
        waiting = self.psql("DELETE FROM carts", wait=False)
        review = self.pending()[0]["id"]
        for who, why in (("alice", "nobody approves"), ("other", "agent"), ("bot", "agent"), ("eve", "none of the groups")):
            with self.assertRaises(CommandFailed) as caught:
                self.approve(review, who)
            self.assertIn(why, caught.exception.stderr)
        self.assertEqual(self.state(review), "pending")
        # Whom it is done for may stop it.
        self.gateway.run("review", "deny", review, **self.as_person("alice"))
        self.assertEqual(self.ended(waiting)[0], 1)

    def test_two_people_and_a_note(self):
        waiting = self.psql("UPDATE carts SET id = 0 WHERE id = 1", wait=False)
        review = self.pending()[0]["id"]
        with self.assertRaises(CommandFailed) as caught:
            self.approve(review)
        self.assertIn("note", caught.exception.stderr)
        self.assertIn("still needs 1 of dba", self.approve(review, "bob", "--note", "fine"))
        with self.assertRaises(CommandFailed):
            self.approve(review, "bob", "--note", "again")
        self.approve(review, "carol", "--note", "fine too")
        self.assertEqual(self.ended(waiting)[0], 0)
        self.assertEqual(sorted(self.steps(review)), ["granted", "used", "vote"])

    def test_cancelling_ends_the_hold(self):
        session = self.raw()
        session.send(query("DELETE FROM carts"))
        review = self.pending()[0]["id"]
        session.cancel(self.gateway.endpoint("bot", self.tokens["bot"]))
        answer = dict(session.answers())
        self.assertEqual(fields(answer[b"E"])["C"], "57014")
        self.assertEqual(self.state(review), "withdrawn")
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])
        self.assertEqual(self.commands("DELETE FROM carts")[0]["outcome"]["status"], "cancelled")

    def test_a_client_that_leaves_withdraws_its_review(self):
        session = self.raw()
        session.send(query("DELETE FROM carts"))
        review = self.pending()[0]["id"]
        session.socket.close()
        until(lambda: self.state(review) == "withdrawn")
        with self.assertRaises(CommandFailed):
            self.approve(review)
        entry = self.commands("DELETE FROM carts")[0]
        self.assertEqual((entry["outcome"]["status"], entry["outcome"]["executed"]), ("cancelled", False))
        self.assertEqual(self.rows(), 10)

    def test_a_change_of_the_policy_judges_anew(self):
        waiting = self.psql("DELETE FROM carts WHERE id = 3", wait=False)
        review = self.pending()[0]["id"]
        self.apply('@id("all") permit (principal, action, resource);')
        try:
            self.assertEqual(self.ended(waiting)[:2], (0, "DELETE 1\n"))
            self.assertEqual(self.state(review), "withdrawn")
        finally:
            self.apply(self.policy)

    def test_a_transaction_that_has_written_waits_briefly(self):
        began = time.monotonic()
        code, _, err = self.psql("BEGIN", "INSERT INTO carts VALUES (11)", "DELETE FROM carts", "COMMIT")
        self.assertLess(time.monotonic() - began, 15)
        self.assertIn("TG001", err)
        self.assertIn("transaction", err)
        self.assertEqual(self.rows(), 10)
        self.finish()

    def test_a_transaction_that_has_written_past_rollback_waits_briefly(self):
        self.server.psql("CREATE SEQUENCE IF NOT EXISTS numbers", "GRANT ALL ON numbers TO app", database="orders")
        began = time.monotonic()
        insert = "INSERT INTO carts VALUES (nextval('numbers'))"
        _, _, err = self.psql("BEGIN", insert, "DELETE FROM carts", "COMMIT")
        self.assertLess(time.monotonic() - began, 15)
        self.assertIn("TG001", err)
        self.assertEqual(self.rows(), 10)
        self.finish()

    def test_what_waits_ends_with_its_session(self):
        waiting = self.psql("DELETE FROM carts", user="other", wait=False)
        review = self.pending()[0]["id"]
        self.gateway.run("agent", "disable", "other")
        code, _, err = self.ended(waiting)
        self.assertNotEqual(code, 0)
        self.assertEqual(self.state(review), "withdrawn")
        self.gateway.run("agent", "enable", "other")


class BehindCode(Reviews):
    """Code can set a search path, and no text says so."""

    policy = '@id("flow") permit (principal, action, resource); @id("code") @review("dba") forbid (principal, action == Action::"execute", resource);'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.psql(
            "CREATE SCHEMA shadow AUTHORIZATION app", "CREATE TABLE shadow.marks (n int)",
            "CREATE FUNCTION shadow.lower(text) RETURNS text LANGUAGE sql AS 'INSERT INTO shadow.marks VALUES (1) RETURNING $1'",
            "CREATE FUNCTION shadow.hides() RETURNS text LANGUAGE sql AS $$ SELECT set_config('search_path', 'shadow, pg_catalog', false) $$",
            "CREATE FUNCTION shadow.harmless() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "GRANT ALL ON shadow.marks TO app", database="orders",
        )  # fmt: skip

    def approved(self, session, sql):
        session.send(query(sql))
        self.approve(self.pending()[0]["id"])
        return [tag for tag, _ in session.answers() if tag not in (b"N", b"S")]

    def test_behind_code_the_target_is_asked_what_it_has_set(self):
        session = self.raw()
        self.assertEqual(session.run("SELECT lower('A')"), [b"T", b"D", b"C", b"Z"])
        self.assertEqual(self.approved(session, "SELECT shadow.harmless()"), [b"T", b"D", b"C", b"Z"])
        self.assertEqual(session.run("SELECT lower('A')"), [b"T", b"D", b"C", b"Z"])
        self.assertEqual(self.approved(session, "SELECT shadow.hides()"), [b"T", b"D", b"C", b"Z"])
        self.assertEqual(session.run("SELECT pg_catalog.lower('A')"), [b"T", b"D", b"C", b"Z"])
        session.send(parse("", "SELECT lower('A')"), bind("", ""), execute(), SYNC)
        self.gateway.run("review", "deny", self.pending()[0]["id"])
        self.assertEqual(fields(dict(session.answers())[b"E"])["C"], "42501")
        self.assertEqual(self.server.psql("SELECT count(*) FROM shadow.marks", database="orders"), "0")
        self.assertEqual(session.run("RESET search_path"), [b"C", b"Z"])
        self.assertEqual(session.run("SELECT lower('A')"), [b"T", b"D", b"C", b"Z"])


class Again(Reviews):
    """What happens once the hold is over."""

    policy = POLICY.replace('@review("dba") @advice', '@review("dba") @hold_for("1s") @advice')

    def refused(self, connection, sql, *values):
        with self.assertRaises(psycopg2.Error) as caught:
            connection.cursor().execute(sql, *values)
        return caught.exception

    def test_the_identical_command_runs_once_when_approved(self):
        connection = self.connect()
        delete = "DELETE FROM carts WHERE id = 4"
        error = self.refused(connection, delete)
        self.assertEqual(error.pgcode, "TG001")
        review = self.pending()[0]["id"]
        for said in (review, "run the identical command again once approved", "/reviews/"):
            self.assertIn(said, str(error))
        self.assertFalse(self.pending()[0]["held"])
        self.assertEqual(self.commands(delete)[0]["outcome"]["status"], "expired")
        self.approve(review)
        # Another command, another role, another search path, another principal: none of them fits.
        cursor = connection.cursor()
        self.assertEqual(self.refused(connection, "DELETE FROM carts WHERE id = 5").pgcode, "TG001")
        cursor.execute("SET search_path = pg_temp, public")
        self.assertEqual(self.refused(connection, delete).pgcode, "TG001")
        cursor.execute("RESET search_path")
        self.assertEqual(self.refused(self.connect("other"), delete).pgcode, "TG001")
        self.assertEqual(self.rows(), 10)
        cursor.execute(delete)
        self.assertEqual((cursor.rowcount, self.rows()), (1, 9))
        self.assertEqual(self.refused(connection, delete).pgcode, "TG001")
        self.finish()

    def test_a_grant_fits_its_parameters_alone(self):
        session = self.raw()
        def delete(value):
            session.send(parse("", "DELETE FROM carts WHERE id = $1", 23), bind("", "", value), execute(), SYNC)
            return dict(session.answers())

        self.assertEqual(fields(delete(b"6")[b"E"])["C"], "TG001")
        self.approve(self.pending()[0]["id"])
        self.assertEqual(fields(delete(b"7")[b"E"])["C"], "TG001")
        self.assertIn(b"C", delete(b"6"))
        self.assertEqual(self.rows(), 9)
        self.finish()

    def test_a_retry_asks_the_same_people_again(self):
        connection = self.connect()
        self.refused(connection, "DELETE FROM carts WHERE id = 8")
        self.refused(connection, "DELETE FROM carts WHERE id = 8")
        self.assertEqual(len(self.pending()), 1)
        self.finish()

    def test_reviews_outlive_a_restart(self):
        connection = self.connect()
        self.refused(connection, "DELETE FROM carts WHERE id = 9")
        self.refused(connection, "DELETE FROM carts WHERE id = 10")
        first, second = self.pending(2)
        self.approve(first["id"])
        for end in (self.gateway.stop, self.gateway.kill):
            end()
            self.gateway.start()
            self.assertEqual(self.state(first["id"]), "granted")
        self.approve(second["id"])
        cursor = self.connect().cursor()
        cursor.execute("DELETE FROM carts WHERE id = 9")
        self.gateway.kill()
        self.gateway.start()
        self.assertEqual(self.state(first["id"]), "used")
        connection = self.connect()
        self.assertEqual(self.refused(connection, "DELETE FROM carts WHERE id = 9").pgcode, "TG001")
        connection.cursor().execute("DELETE FROM carts WHERE id = 10")
        self.assertEqual(self.rows(), 8)
        self.finish()

    def test_what_was_held_when_the_gateway_died_is_withdrawn(self):
        waiting = self.psql("UPDATE carts SET id = 1", wait=False)
        review = self.pending()[0]["id"]
        until(lambda: self.state(review) == "pending")
        time.sleep(0.3)
        self.gateway.kill()
        self.ended(waiting)
        self.gateway.start()
        self.assertEqual(self.state(review), "withdrawn")


class Refused(Reviews):
    def test_the_reason_and_the_next_step_stand_in_the_message(self):
        with self.assertRaises(psycopg2.Error) as caught:
            self.connect().cursor().execute("DROP TABLE carts")
        self.assertEqual(caught.exception.pgcode, "42501")
        for said in ("never", "ask for an archive instead"):
            self.assertIn(said, caught.exception.diag.message_primary)
        self.assertIn("no other route", caught.exception.diag.message_hint)
        entry = self.commands("DROP TABLE")[0]
        self.assertEqual((entry["decision"]["effect"], entry["outcome"]["status"], entry["outcome"]["code"]), ("forbid", "denied", "42501"))

    def test_a_refusal_aborts_the_transaction(self):
        _, out, err = self.psql("BEGIN", "INSERT INTO carts VALUES (12)", "DROP TABLE carts", "SELECT 1", "COMMIT")
        self.assertIn("25P02", err)
        self.assertIn("ROLLBACK", out)
        self.assertEqual(self.rows(), 10)

    def test_outside_a_transaction_the_session_goes_on(self):
        session = self.raw()
        session.send(query("DROP TABLE carts"))
        answer = session.answers()
        self.assertEqual([tag for tag, _ in answer], [b"E", b"Z"])
        self.assertEqual(answer[-1][1], b"I")
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])

    def test_a_pipeline_ends_at_the_refused_command(self):
        session = self.raw()
        session.send(
            parse("", "INSERT INTO carts VALUES (13)"), bind("", ""), execute(),
            parse("", "DROP TABLE carts"), bind("", ""), execute(),
            parse("", "INSERT INTO carts VALUES (14)"), bind("", ""), execute(), SYNC,
            parse("", "SELECT 1"), bind("", ""), execute(), SYNC,
        )  # fmt: skip
        first = [tag for tag, _ in session.answers()]
        self.assertEqual(first, [b"1", b"2", b"C", b"1", b"E", b"Z"])
        self.assertEqual([tag for tag, _ in session.answers()], [b"1", b"2", b"D", b"C", b"Z"])
        self.assertEqual(self.rows(), 10)
        statuses = {text: self.commands(text)[0]["outcome"]["status"] for text in ("(13)", "DROP", "(14)")}
        self.assertEqual(statuses, {"(13)": "ok", "DROP": "denied", "(14)": "cancelled"})

    def test_a_message_of_several_statements_stands_or_falls_as_one(self):
        session = self.raw()
        session.send(query("INSERT INTO carts VALUES (15); DROP TABLE carts; SELECT 1"))
        self.assertEqual([tag for tag, _ in session.answers()], [b"E", b"Z"])
        self.assertEqual(self.rows(), 10)
        self.assertEqual(self.commands("(15)")[0]["outcome"]["status"], "cancelled")

    def test_what_was_prepared_under_another_policy_is_refused_when_executed(self):
        self.apply('@id("flow") permit (principal, action, resource);')
        cursor = self.connect().cursor()
        cursor.execute("PREPARE x AS DELETE FROM carts")
        session = self.raw()
        session.send(parse("x", "DELETE FROM carts"), SYNC)
        session.answers()
        self.apply(self.policy.replace('@review("dba") @advice("wait for a dba, then run it again")', ""))
        try:
            with self.assertRaises(psycopg2.errors.InsufficientPrivilege) as caught:
                cursor.execute("EXECUTE x")
            self.assertIn("ask-delete", str(caught.exception))
            session.send(bind("", "x"), execute(), SYNC)
            self.assertEqual(fields(dict(session.answers())[b"E"])["C"], "42501")
        finally:
            self.apply(self.policy)
        self.assertEqual(self.rows(), 10)

    def test_copy_is_judged(self):
        self.apply(self.policy + '@id("no-copy") forbid (principal, action, resource) when { context.verb == "COPY" };')
        try:
            with self.assertRaises(psycopg2.Error) as caught:
                with open("/dev/null") as nothing:
                    self.connect().cursor().copy_expert("COPY carts FROM STDIN", nothing)
            self.assertEqual(caught.exception.pgcode, "42501")
        finally:
            self.apply(self.policy)


class Obliged(Reviews):
    policy = '@id("flow") %s permit (principal, action, resource);'

    @classmethod
    def apply(cls, annotation):
        super().apply(annotation if "permit" in annotation and "%s" not in annotation else cls.policy % annotation.replace(cls.policy, ""))

    def test_rows_beyond_the_limit_are_an_error_never_a_part(self):
        self.apply('@limit_rows("5")')
        connection = self.connect()
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute("SELECT * FROM carts LIMIT 5")
        self.assertEqual(len(cursor.fetchall()), 5)
        with self.assertRaises(psycopg2.Error) as caught:
            cursor.execute("SELECT generate_series(1, 1000000)")
        self.assertEqual(caught.exception.pgcode, "54000")
        self.assertIn("more than 5 rows", str(caught.exception))
        with self.assertRaises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute("SELECT 1")
        connection.rollback()
        # So few that the target has finished before it hears of it.
        with self.assertRaises(psycopg2.Error):
            cursor.execute("SELECT * FROM carts")
        with self.assertRaises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute("SELECT 1")
        connection.rollback()
        cursor.execute("SELECT 1")

    def test_rows_are_limited_in_pipelines_and_copies(self):
        self.apply('@limit_rows("5")')
        session = self.raw()
        session.send(parse("", "SELECT * FROM carts"), bind("", ""), execute(), parse("", "SELECT 1"), bind("", ""), execute(), SYNC)
        answer = session.answers()
        self.assertEqual([tag for tag, _ in answer], [b"1", b"2"] + [b"D"] * 5 + [b"E", b"Z"])
        session.send(query("COPY (SELECT * FROM carts) TO STDOUT"))
        tags = [tag for tag, _ in session.answers()]
        self.assertEqual((tags.count(b"d"), tags[-2:]), (5, [b"E", b"Z"]))
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])

    def test_time_is_limited(self):
        self.apply('@timeout("500ms")')
        with self.assertRaises(psycopg2.errors.QueryCanceled) as caught:
            self.connect().cursor().execute("SELECT pg_sleep(20)")
        self.assertIn("stopped by policy", str(caught.exception))
        self.assertEqual(self.commands("pg_sleep")[0]["outcome"]["status"], "cancelled")

    def test_read_only_holds_whatever_the_client_tries(self):
        self.apply("@read_only")
        connection = self.connect()
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM carts")
        self.assertEqual(cursor.fetchone(), (10,))
        insert = "INSERT INTO carts VALUES (99)"
        for attempt in (
            [insert], ["SET transaction_read_only = off", insert], ["SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", insert],
            ["BEGIN READ WRITE", insert], ["BEGIN", "SET TRANSACTION READ WRITE", insert], ["BEGIN", "SAVEPOINT a", "SET TRANSACTION READ WRITE", insert],
            ["SELECT set_config('transaction_read_only', 'off', false)", insert],
            ["PREPARE i AS " + insert, "EXECUTE i"], ["SET transaction_read_only = off; " + insert],
            ["DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; INSERT INTO carts VALUES (98); END $$"],
            ["BEGIN", "DO $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); INSERT INTO carts VALUES (98); END $$"],
            ["COMMIT; " + insert], ["BEGIN; COMMIT; " + insert],
            ["SELECT 1; COMMIT; SELECT FROM FROM; " + insert], ["WITH w AS (" + insert + " RETURNING id) SELECT * FROM w"],
        ):  # fmt: skip
            with self.subTest(attempt), self.assertRaises(psycopg2.Error):
                for command in attempt:
                    cursor.execute(command)
            cursor.execute("ROLLBACK")
            cursor.execute("DEALLOCATE ALL")
        self.assertEqual(self.rows(), 10)
        session = self.raw()
        session.send(parse("", insert), bind("", ""), execute(), SYNC)
        self.assertEqual([tag for tag, _ in session.answers()], [b"1", b"2", b"E", b"Z"])
        session.send(parse("", "SELECT * FROM carts LIMIT 1"), bind("", ""), execute(), SYNC)
        self.assertEqual([tag for tag, _ in session.answers()], [b"1", b"2", b"D", b"C", b"Z"])
        self.assertEqual(session.run("SELECT 1"), [b"T", b"D", b"C", b"Z"])
        self.assertEqual(self.rows(), 10)

    def test_rows_are_recorded_up_to_the_cap(self):
        self.apply('@record_rows("20B")')
        cursor = self.connect().cursor()
        cursor.execute("SELECT id, NULL, 'a' || chr(9) || 'b' FROM carts ORDER BY id LIMIT 4")
        self.assertEqual(len(cursor.fetchall()), 4)
        entry = self.commands("chr(9)")[0]
        rows = self.gateway.run("trail", "show", entry["id"], "--captured", "rows")
        self.assertEqual(rows, "1\t\\N\ta\\tb\n2\t\\N\ta\\tb\n")
        self.assertEqual(entry["outcome"]["not_kept"]["bytes"], 20)

    def test_a_budget_says_when_to_come_back(self):
        self.apply('@commands_per_minute("5")')
        cursor = self.connect("other").cursor()
        with self.assertRaises(psycopg2.Error) as caught:
            for _ in range(7):
                cursor.execute("SELECT 1")
        self.assertEqual(caught.exception.pgcode, "42501")
        self.assertRegex(str(caught.exception), r"come back in \d+ s")
        with self.subTest("sessions"):
            self.apply('@sessions("2")')
            kept = [self.connect("carol"), self.connect("carol")]
            with self.assertRaises(psycopg2.OperationalError) as caught:
                self.connect("carol")
            self.assertIn("2 sessions", str(caught.exception))
            kept.pop().close()
            until(lambda: self.connects("carol"))
        # Another principal has its own.
        self.connect("bob").cursor().execute("SELECT 1")

    def test_rows_that_are_written_are_not_those_of_a_budget(self):
        self.apply('@rows_per_hour("5")')
        session = self.raw("eve")
        self.assertEqual(session.run("UPDATE carts SET id = id"), [b"C", b"Z"])
        session.send(query("COPY carts FROM STDIN"), message(b"d", b"1\n" * 100), message(b"c"))
        self.assertEqual([tag for tag, _ in session.answers()], [b"G", b"C", b"Z"])
        session.run("BEGIN")
        session.run("DECLARE c CURSOR FOR SELECT * FROM carts")
        self.assertEqual(session.run("MOVE 50 FROM c"), [b"C", b"Z"])
        self.assertEqual(session.run("COMMIT"), [b"C", b"Z"])
        # What goes to the client is, of whatever command.
        self.assertEqual(session.run("UPDATE carts SET id = id WHERE id = 9 RETURNING id"), [b"T", b"D", b"C", b"Z"])
        self.assertEqual(session.run("COPY (SELECT 1 LIMIT 1) TO STDOUT"), [b"H", b"d", b"c", b"C", b"Z"])
        self.assertEqual(session.run("SELECT generate_series(1, 3)"), [b"T"] + [b"D"] * 3 + [b"C", b"Z"])
        session.send(query("SELECT 1"))
        self.assertIn("5 rows an hour", fields(dict(session.answers())[b"E"])["M"])


class Page(Reviews):
    settings = {"review": {"hold_for_s": 30}}

    @classmethod
    def setUpClass(cls):
        received = cls.received = []

        class Hook(http.server.BaseHTTPRequestHandler):
            fail = 1

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/hangs":
                    time.sleep(9)
                received.append((self.path, dict(self.headers), body))
                Hook.fail -= 1
                self.send_response(500 if Hook.fail >= 0 else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        cls.hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=cls.hook.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.hook.server_close)
        cls.addClassCleanup(cls.hook.shutdown)
        import tempfile

        secret = tempfile.NamedTemporaryFile("w", delete=False)
        secret.write("0123456789abcdef0123456789abcdef")
        secret.close()
        base = f"http://127.0.0.1:{cls.hook.server_port}"
        cls.settings = cls.settings | {
            "review.webhook.ops": {"url": f"{base}/ops", "secret": f"file:{secret.name}"},
            "review.webhook.chat": {"url": f"{base}/chat", "format": "slack"},
            "review.webhook.hangs": {"url": f"{base}/hangs", "secret": f"file:{secret.name}"},
        }
        super().setUpClass()

    def post(self, review, **form):
        url = f"http://127.0.0.1:{self.gateway.web_port}/reviews/{review}"
        try:
            with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode()) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def test_the_page_shows_nothing_and_does_nothing_without_a_reviewer(self):
        waiting = self.psql("DELETE FROM carts WHERE id = 1 -- <b>x</b>", wait=False)
        review = self.pending()[0]["id"]
        with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway.web_port}/reviews/{review}?answer=approve") as answer:
            text, headers = answer.read().decode(), answer.headers
        self.assertNotIn("DELETE", text)
        self.assertIn("no-store", headers["cache-control"])
        self.assertIn("frame-ancestors 'none'", headers["content-security-policy"])
        self.assertEqual(self.post(review, action="approve")[0], 401)
        self.assertEqual(self.post(review, action="approve", token=self.tokens["bob"])[0], 400)
        self.assertEqual(self.post(review, action="show", token=self.tokens["bot"])[0], 403)
        status, shown = self.post(review, action="show", token=self.tokens["bob"])
        self.assertEqual(status, 200)
        self.assertIn("DELETE FROM carts WHERE id = 1 -- &lt;b&gt;x&lt;/b&gt;", shown)
        ticket = re.search(r'name=ticket value="([^"]+)"', shown).group(1)
        self.assertEqual(self.post(review, action="approve", ticket=ticket[:-1] + "0" + "1"[: ticket.endswith("0")])[0], 401)
        self.assertEqual(self.state(review), "pending")
        status, said = self.post(review, action="approve", ticket=ticket)
        self.assertEqual(status, 200)
        self.assertIn("Approved", said)
        self.assertEqual(self.ended(waiting)[0], 0)

    def test_webhooks_are_signed_and_tried_again(self):
        waiting = self.psql("DELETE FROM carts WHERE id = 2", wait=False)
        review = self.pending()[0]["id"]
        def told(path, event):
            for at, headers, body in list(self.received):
                if at == path and review in body.decode() and event in body.decode():
                    return headers, body

        headers, body = until(lambda: told("/ops", "review.requested"), seconds=20)
        moment, tag = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["trailgate-signature"]).groups()
        key = b"0123456789abcdef0123456789abcdef"
        self.assertEqual(hmac.new(key, f"{moment}.".encode() + body, hashlib.sha256).hexdigest(), tag)
        self.assertEqual(json.loads(body)["review"]["command"], "DELETE FROM carts WHERE id = 2")
        _, body = until(lambda: told("/chat", "wants to run"), seconds=20)
        message = json.loads(body)
        buttons = message["blocks"][-1]["elements"]
        self.assertEqual([button["text"]["text"] for button in buttons], ["Approve", "Deny"])
        self.approve(review)
        self.ended(waiting)
        # While another receiver still hangs.
        until(lambda: told("/ops", "review.decided"), seconds=6)
