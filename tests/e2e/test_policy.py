"""Policies: written, checked, applied, explained, tested; in force for clients, and in the trail."""

import json
import tempfile
import time
import unittest
from pathlib import Path

import psycopg2

from harness.gateway import Gateway
from harness.raw import SYNC, Raw, Refused, bind, execute, parse
from house import Case

OBSERVE = "permit (principal, action, resource);"
SHOP = """
@id("all") permit (principal, action, resource);
@id("no-salaries") @advice("use the view public.headcount")
forbid (principal, action, resource == Object::"orders.public.salaries");
@id("no-where") @review("dba") @hold_for("1s")
forbid (principal is Agent, action == Action::"write", resource) unless { context.has_where };
"""
CASES = """
policy = "shop.cedar"
[principals]
alice = { kind = "person", groups = ["dba"] }
chatgpt = { for = "alice" }
[targets]
orders = { labels = { env = "prod" } }
[[case]]
who = "chatgpt"
target = "orders"
command = "DELETE FROM carts"
expect = "review"
review = ["dba"]
policies = ["no-where"]
class = "write"
[[case]]
who = "alice"
target = "orders"
command = "SELECT 1; SELECT * FROM salaries"
expect = "forbid"
policies = ["no-salaries"]
[[case]]
who = "chatgpt"
target = "orders"
command = "DELETE FROM carts"
approved_by = ["dba"]
expect = "permit"
[[case]]
who = "chatgpt"
target = "orders"
at = 2026-11-23T22:00:00Z
expect = "permit"
"""


class WithoutAGateway(unittest.TestCase):
    """What needs no gateway, and where there is none."""

    def setUp(self):
        self.gateway = Gateway()
        self.addCleanup(self.gateway.__exit__)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.shop = self.write("shop.cedar", SHOP)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def policy(self, *arguments, code=0):
        done = self.gateway.try_run("policy", *arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        if code == 1:
            lines = done.stderr.strip().splitlines()
            self.assertEqual((lines[0][:11], len(lines)), ("trailgate: ", 2), done.stderr)
        return done

    def test_a_good_policy_is_checked(self):
        for policy in (self.shop, "observe", "careful", "locked"):
            self.assertIn(f"{policy} is a policy: sha256:", self.policy("check", policy).stdout)
        found = json.loads(self.policy("check", self.shop, "--json").stdout)
        self.assertEqual((found["severity"], found["file"], found["warnings"]), ("ok", str(self.shop), 0))

    def test_a_bad_one_names_every_place(self):
        bad = self.write("bad.cedar", "permit (principal, action, resource)\nwhen { context.has_were };\n\n"
                                      '@reviw("dba")\nforbid (principal, action == Action::"delete", resource);\n')  # fmt: skip
        said = self.policy("check", bad, code=1)
        self.assertIn(f"{bad}:2:8: ", said.stdout)
        self.assertIn("did you mean @review?", said.stdout)
        problems = [json.loads(line) for line in self.policy("check", bad, "--json", code=1).stdout.splitlines()]
        self.assertEqual([problem["line"] for problem in problems], [2, 4, 5])
        for problem in problems:
            self.assertEqual((problem["severity"], problem["file"]), ("error", str(bad)))
            self.assertTrue(problem["problem"] and problem["advice"] and problem["column"], problem)
        self.assertIn("neither a file nor a shipped policy", self.policy("check", "nothing.cedar", code=1).stderr)
        self.policy("check", code=2)
        self.policy("frobnicate", code=2)

    def test_tables_of_cases_are_run(self):
        self.write("shop.toml", CASES)
        self.assertIn("shop.toml: 4 cases, all as expected", self.policy("test", self.folder).stdout)
        found = [json.loads(line) for line in self.policy("test", self.folder, "--json").stdout.splitlines()]
        self.assertEqual([case["ok"] for case in found], [True] * 4)
        self.write("shop.toml", CASES.replace('expect = "review"', 'expect = "permit"').replace('["dba"]\npol', '["x"]\npol'))
        said = self.policy("test", self.folder, code=1)
        self.assertRegex(said.stdout, r"shop\.toml:8: chatgpt on orders: DELETE FROM carts\n"
                                      r"  decision: expected permit, found review\n"
                                      r"  review by: expected x, found dba\n  because policy `no-where` asks")  # fmt: skip
        self.assertIn("1 of 4 cases are not as expected", said.stderr)

    def test_what_is_no_test_file_is_said(self):
        self.assertIn("no test file", self.policy("test", self.folder, code=1).stderr)
        for text, expected in [
            ('policy = "careful"\n', "no cases"),
            ('policy = "reckless"\n[[case]]\n', "missing field"),
            ('policy = "careful"\n[[case]]\nwho = "a"\ntarget = "t"\nexpect = "maybe"\n', "broken.toml:5"),
            ('policy = "reckless"\n[[case]]\nwho = "a"\ntarget = "t"\nexpect = "permit"\n', "neither a file nor"),
        ]:
            self.write("broken.toml", text)
            self.assertIn(expected, self.policy("test", self.folder, code=1).stderr, text)

    def test_a_file_is_explained_without_a_gateway(self):
        asked = ("explain", "--principal", "chatgpt", "--target", "orders", "--policy", self.shop)
        said = self.policy(*asked, "DELETE FROM carts", "--json")
        self.assertIn("no gateway answers", said.stderr)
        found = json.loads(said.stdout)
        self.assertEqual((found["class"], found["verb"], found["effect"]), ("write", "DELETE", "review"))
        self.assertEqual(found["objects"], [{"name": "public.carts", "usage": "write"}])
        self.policy("explain", "--principal", "chatgpt", "--target", "orders", "SELECT 1", code=1)


class Policies(Case):
    """Against a gateway. Each test leaves `observe` in force."""

    def setUp(self):
        super().setUp()
        self.addCleanup(self.apply, "observe")
        self.folder = Path(self.gateway.home)

    def apply(self, policy):
        """Puts a text in force, or a shipped policy."""
        if " " in policy:
            path = self.folder / "own.cedar"
            path.write_text(policy)
            policy = path
        return self.gateway.objects("policy", "apply", policy)[0]

    def salaries(self):
        """A table that the target itself would let everybody read."""
        self.server.psql(
            "CREATE TABLE IF NOT EXISTS salaries (amount int)", "GRANT ALL ON salaries TO app", database="orders"
        )

    def explain(self, *arguments):
        return self.gateway.objects("policy", "explain", "--principal", "chatgpt", "--target", "orders", *arguments)

    def test_a_change_is_shown_and_an_entry(self):
        observe = self.gateway.objects("policy", "show")[0]
        self.assertEqual(observe["name"], "observe")
        applied = self.apply(SHOP)
        self.assertEqual((applied["changed"], applied["before"]), (True, observe["hash"]))
        self.assertIn("group `dba` has 0 people", applied["policy"]["warnings"][0])
        shown = self.gateway.objects("policy", "show")[0]
        self.assertEqual((shown["name"], shown["source"], shown["applied_by"]), ("own", SHOP, "local-administrator"))
        self.assertFalse(self.apply(SHOP)["changed"])
        entry = self.entries("--kind", "control.changed", "--grep", shown["hash"])[0]
        self.assertEqual((entry["event"]["subject"], entry["event"]["action"]), ("policy", "apply"))
        self.assertEqual((entry["event"]["before"]["hash"], entry["event"]["after"]["hash"]),
                         (observe["hash"], shown["hash"]))  # fmt: skip
        self.assertEqual(self.gateway.objects("policy", "history")[0]["hash"], shown["hash"])
        refused = self.gateway.try_run("policy", "apply", "reckless")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("neither a file nor a shipped policy", refused.stderr)

    def test_explain_says_what_the_policy_in_force_makes_of_a_command(self):
        self.apply("careful")
        read, write = self.explain("SELECT * FROM carts; UPDATE carts SET x = 1 WHERE id = 2")
        self.assertEqual((read["effect"], write["effect"]), ("permit", "review"))
        self.assertEqual(write["review"]["groups"], ["reviewers"])
        self.assertEqual(self.explain("--in-transaction", "UPDATE carts SET x = 1 WHERE id = 2")[0]["effect"], "permit")
        self.assertEqual(self.explain("--approved-by", "reviewers", "DROP TABLE carts")[0]["effect"], "permit")
        self.assertEqual(self.explain("SELECT own_function()")[0]["class"], "unknown")
        self.assertEqual(self.explain("--policy", "locked")[0]["effect"], "forbid")
        said = self.gateway.run("policy", "explain", "--principal", "chatgpt", "--target", "orders", "DROP TABLE carts")
        self.assertRegex(said, "decision +review\npolicies +careful-change\n")
        for wrong in (("--principal", "nobody", "--target", "orders"), ("--principal", "chatgpt", "--target", "nowhere")):
            done = self.gateway.try_run("policy", "explain", *wrong, "SELECT 1")
            self.assertEqual((done.returncode, len(done.stderr.strip().splitlines())), (1, 2), done.stderr)

    def test_who_may_not_connect_hears_why(self):
        self.apply('permit (principal, action, resource);\n@id("office") @advice("come through the VPN")\n'
                   'forbid (principal is Agent, action == Action::"connect", resource);')  # fmt: skip
        with self.assertRaises(Refused) as caught:
            Raw(self.endpoint(), "orders")
        fields = caught.exception.fields
        self.assertEqual((fields["S"], fields["C"]), ("FATAL", "42501"))
        self.assertEqual(fields["M"], "policy `office` forbids connect to orders; come through the VPN")
        entry = self.failed_login()
        self.assertEqual(entry["principal"]["name"], "chatgpt")
        self.assertIn("policy `office` forbids connect", entry["event"]["reason"])

    def test_what_a_connection_arranges_is_judged_as_by_set(self):
        self.apply('permit (principal, action, resource);\n@id("no-admin") forbid (principal, action == Action::"administer", resource);')
        for arranged in ({"options": "-c role=pg_read_all_data"}, {"options": "--log-statement=none"}, {"options": "-sc geqo=on"},
                         {"options": "-c search_path=public -crole=none"}):  # fmt: skip
            said = self.refused(**arranged)
            self.assertIn("policy `no-admin` forbids administer on orders", said, arranged)
        with self.assertRaises(Refused) as caught:
            Raw(self.endpoint(), "orders", role="pg_read_all_data")
        self.assertEqual(caught.exception.fields["C"], "42501")
        reasons = [entry["event"]["reason"] for entry in self.entries("--kind", "auth.failed")]
        self.assertTrue(all("settings of the connection (" in reason for reason in reasons), reasons)
        self.assertTrue(any("role" in reason for reason in reasons), reasons)
        with self.connection(options="-c search_path=public -c statement_timeout=1000") as connection:
            self.assertEqual(connection.get_parameter_status("client_encoding"), "UTF8")
        # Who waits at the door can't wait for people.
        self.apply('permit (principal, action, resource);\n@review("dba") forbid (principal, action == Action::"administer", resource);')
        self.assertIn("say it with SET", self.refused(options="-c role=pg_read_all_data"))

    def test_code_meets_rules_whatever_their_conditions_on_the_command(self):
        self.apply('permit (principal, action, resource);\n'
                   '@id("no-delete") forbid (principal, action == Action::"write", resource) when { context.verb == "DELETE" };')
        with self.connection() as connection, connection.cursor() as cursor:
            for code in ("DO $$ BEGIN DELETE FROM salaries; END $$", "SELECT query_to_xml('DELETE FROM salaries', true, true, '')",
                         "CALL somebodys()"):  # fmt: skip
                with self.assertRaises(psycopg2.errors.InsufficientPrivilege, msg=code) as caught:
                    cursor.execute(code)
                self.assertIn("no-delete", str(caught.exception))
            cursor.execute("SELECT 1")

    def test_a_where_that_says_nothing_is_none(self):
        self.server.psql("CREATE TABLE IF NOT EXISTS wagons (id int)", "GRANT ALL ON wagons TO app", database="orders")
        self.apply('permit (principal, action, resource);\n'
                   '@id("no-where") forbid (principal, action == Action::"write", resource) unless { context.has_where };')
        with self.connection() as connection, connection.cursor() as cursor:
            for everything in ("DELETE FROM wagons WHERE true", "UPDATE wagons SET id = 1 WHERE 1 = 1 OR 'a' = 'b'", "TRUNCATE wagons",
                               "MERGE INTO wagons USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
                               "WITH gone AS (DELETE FROM wagons WHERE now() > '2000-01-01' RETURNING 1) SELECT count(*) FROM gone"):  # fmt: skip
                with self.assertRaises(psycopg2.errors.InsufficientPrivilege, msg=everything):
                    cursor.execute(everything)
            for some in ("DELETE FROM wagons WHERE id = 5", "INSERT INTO wagons VALUES (1)",
                         "MERGE INTO wagons USING (SELECT 1 AS id) s ON wagons.id = s.id WHEN MATCHED THEN DELETE"):  # fmt: skip
                cursor.execute(some)

    def test_careful_lets_a_transaction_flow_however_it_is_sent(self):
        self.server.psql("CREATE TABLE IF NOT EXISTS wagons (id int)", "GRANT ALL ON wagons TO app", database="orders")
        self.apply("careful")
        update = "UPDATE wagons SET id = 2 WHERE id = 1"
        done = self.psql(f"BEGIN; {update}; COMMIT")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        session = Raw(self.endpoint(), "orders")
        self.addCleanup(session.socket.close)
        # As drivers do that say BEGIN with the first statement.
        session.send(*(parse("", sql) + bind("", "") + execute() for sql in ("BEGIN", update, "COMMIT")), SYNC)
        tags = [tag for tag, _ in session.answers()]
        self.assertEqual(tags, [b"1", b"2", b"C"] * 3 + [b"Z"])

    def test_a_change_is_in_force_for_open_sessions(self):
        self.salaries()
        with self.connection() as connection, connection.cursor() as cursor:
            hash_of = {}
            for policy, permitted in [("observe", True), (SHOP, False), ("observe", True)]:
                hash_of[policy] = self.apply(policy)["policy"]["hash"]
                began = time.monotonic()
                if permitted:
                    cursor.execute("SELECT count(*) FROM salaries")
                else:
                    with self.assertRaises(psycopg2.errors.InsufficientPrivilege) as caught:
                        cursor.execute("SELECT count(*) FROM salaries")
                    self.assertIn("policy `no-salaries` forbids read on orders.public.salaries", str(caught.exception))
                    self.assertIn("use the view public.headcount", str(caught.exception))
                self.assertLess(time.monotonic() - began, 1)
        decisions = [entry["decision"] for entry in self.commands() if "salaries" in entry["command"]["text"]]
        self.assertEqual([one["effect"] for one in decisions], ["permit", "forbid", "permit"])
        self.assertEqual([one["policies"] for one in decisions], [["observe"], ["no-salaries"], ["observe"]])
        self.assertEqual(decisions[1]["policy_hash"], hash_of[SHOP])

    def test_every_object_counts_and_the_unknown_most(self):
        self.salaries()
        self.apply(SHOP)
        with self.connection() as connection, connection.cursor() as cursor:
            for hidden in ("WITH x AS (SELECT * FROM salaries) SELECT count(*) FROM x",
                           "EXPLAIN ANALYZE SELECT * FROM public.salaries",
                           "COPY salaries TO STDOUT",
                           "DO $$ BEGIN PERFORM amount FROM salaries; END $$",
                           "SELECT not_ours()",
                           "PREPARE p AS SELECT * FROM salaries"):  # fmt: skip
                with self.assertRaises(psycopg2.errors.InsufficientPrivilege, msg=hidden) as caught:
                    cursor.execute(hidden)
                self.assertIn("policy `no-salaries` forbids", str(caught.exception), hidden)
            cursor.execute("SELECT 1")


if __name__ == "__main__":
    unittest.main()
