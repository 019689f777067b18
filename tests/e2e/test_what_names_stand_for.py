"""What a name stands for is decided by the server when it is used: statements that SQL or code names anew, portals that
are executed later, tables under another path. And the end of a COPY that is none."""

from harness.raw import SYNC, bind, execute, fields, message, parse, query
from test_reviews import Reviews

PERMIT = '@id("flow") permit (principal, action, resource);'
NO_DELETE = PERMIT + '@id("no-delete") forbid (principal, action, resource) when { context.verb == "DELETE" };'
NO_DROP = PERMIT + '@id("no-drop") forbid (principal, action == Action::"define", resource == Object::"orders.public.carts");'
CODE = PERMIT + '@id("code") @review("dba") forbid (principal, action == Action::"execute", resource);'
DELETE = "DELETE FROM carts"
COPY_DONE = message(b"c")


def close_statement(name):
    return message(b"C", b"S" + name.encode() + b"\0")


def run(sql):
    return parse("", sql) + bind("", "") + execute()


class Said(Reviews):
    def said(self, session, *messages):
        """Tags of the answer, and the fields of the error in it."""
        session.send(*messages)
        answer = session.answers()
        return [tag for tag, _ in answer if tag not in (b"N", b"S")], fields(dict(answer).get(b"E", b""))

    def assert_refused(self, session, *messages):
        _, error = self.said(session, *messages)
        self.assertEqual(error.get("C"), "42501", error)
        self.assertIn("policy", error["M"])
        self.assertEqual(self.rows(), 10)


class Names(Said):
    policy = NO_DELETE

    def test_a_name_that_sql_has_freed_is_another_statements(self):
        use = (parse("p", DELETE), bind("", "p"), execute(), SYNC)
        for frees in ("DEALLOCATE p", "DEALLOCATE ALL", "DISCARD ALL"):
            with self.subTest(frees):
                session = self.raw()
                self.assertEqual(self.said(session, parse("p", "SELECT 1"), SYNC)[0], [b"1", b"Z"])
                self.assertEqual(session.run(frees)[-2:], [b"C", b"Z"])
                self.assert_refused(session, *use)
        with self.subTest("in one pipeline"):
            session = self.raw()
            self.said(session, parse("p", "SELECT 1"), SYNC)
            self.assert_refused(session, run("DEALLOCATE p"), *use)
        entries = self.commands(DELETE)
        self.assertEqual([entry["outcome"]["status"] for entry in entries], ["denied"] * 4)

    def test_a_refused_parse_leaves_the_name_to_what_has_it(self):
        session = self.raw()
        self.said(session, parse("p", DELETE), SYNC)
        for parses in (1, 3):
            tags, error = self.said(session, parse("p", "SELECT 1") * parses, SYNC)
            self.assertEqual((tags, error["C"]), ([b"E", b"Z"], "42P05"))
            self.assert_refused(session, bind("", "p"), execute(), SYNC)
        # The next one does not wait for the answer.
        session.send(parse("p", "SELECT 1"), SYNC, query("EXECUTE p"))
        self.assertEqual(fields(dict(session.answers())[b"E"])["C"], "42P05")
        self.assertEqual(fields(dict(session.answers())[b"E"])["C"], "42501")
        self.assertEqual(self.rows(), 10)

    def test_a_portal_runs_what_has_the_name_when_it_is_executed(self):
        session = self.raw()
        self.assert_refused(
            session, parse("p", "SELECT 1"), parse("", "EXECUTE p"), bind("P", ""), close_statement("p"),
            parse("p", DELETE), execute("P"), SYNC,
        )  # fmt: skip
        bound, executed = sorted(self.commands("EXECUTE p"), key=lambda entry: entry["seq"])
        self.assertEqual([bound["outcome"]["status"], executed["outcome"]["status"]], ["cancelled", "denied"])
        # As long as nothing changes hands it is one command.
        tags, _ = self.said(session, parse("q", "SELECT 1"), parse("", "EXECUTE q"), bind("Q", ""), execute("Q"), SYNC)
        self.assertEqual(tags, [b"1", b"1", b"2", b"D", b"C", b"Z"])
        self.assertEqual([entry["outcome"]["status"] for entry in self.commands("EXECUTE q")], ["ok"])

    def test_a_portal_names_tables_under_the_path_of_its_execution(self):
        self.server.psql(
            "ALTER TABLE carts OWNER TO app", "DROP SCHEMA IF EXISTS scratch CASCADE", "CREATE SCHEMA scratch AUTHORIZATION app",
            "CREATE TABLE scratch.carts ()", "ALTER TABLE scratch.carts OWNER TO app", database="orders",
        )  # fmt: skip
        self.apply(NO_DROP)
        try:
            session = self.raw()
            session.run("SET search_path = scratch")
            drop = (parse("", "DROP TABLE carts"), bind("P", ""))
            self.assert_refused(session, *drop, run("SET search_path = public"), execute("P"), SYNC)
            # With the refusal its SET is undone as well.
            tags, error = self.said(session, *drop, execute("P"), SYNC)
            self.assertEqual((tags, error), ([b"1", b"2", b"C", b"Z"], {}))
        finally:
            self.apply(self.policy)
        self.assertEqual(self.rows(), 10)

    def test_the_end_of_a_copy_that_has_failed_shifts_no_answer(self):
        session = self.raw()
        for begin in (query("COPY carts FROM STDIN"), run("COPY carts FROM STDIN") + SYNC):
            session.send(begin)
            while session.read()[0] != b"G":
                pass
            session.send(message(b"d", b"no number\n"))
            self.assertEqual(session.error()["C"], "22P02")
            if begin[:1] == b"Q":
                self.assertEqual(session.read()[0], b"Z")
                session.send(message(b"d", b"1\n"), COPY_DONE)
            else:
                session.send(COPY_DONE, SYNC)
                self.assertEqual([tag for tag, _ in session.answers()], [b"Z"])
            self.assertEqual(session.run("SELECT generate_series(1, 3)"), [b"T"] + [b"D"] * 3 + [b"C", b"Z"])
            self.assert_refused(session, query(DELETE))
        # And all of it sent before the target has said a word, where there is nothing to copy into.
        session.send(query("COPY nowhere FROM STDIN"), message(b"d", b"1\n"), COPY_DONE)
        self.assertEqual([tag for tag, _ in session.answers()], [b"E", b"Z"])
        session.send(COPY_DONE)
        self.assert_refused(session, query(DELETE))
        outcomes = [(entry["outcome"]["status"], entry["outcome"]["rows"]) for entry in self.commands("generate_series")]
        self.assertEqual(outcomes, [("ok", 3)] * 2)

    def test_a_copy_that_fails_as_it_begins_shifts_no_answer(self):
        self.server.psql("CREATE OR REPLACE VIEW seen AS SELECT 1 AS id", "GRANT ALL ON seen TO app", database="orders")
        for _ in range(10):
            session = self.raw()
            session.send(
                run("COPY seen FROM STDIN"), SYNC, message(b"d", b"1\n"), COPY_DONE, SYNC, query("SELECT generate_series(1, 3)"),
                query(DELETE),
            )  # fmt: skip
            self.assertEqual(session.error()["C"], "42809")
            self.assertIn("policy", session.error()["M"])
        outcomes = [(entry["outcome"]["status"], entry["outcome"]["rows"]) for entry in self.commands("generate_series")]
        self.assertEqual(outcomes, [("ok", 3)] * 10)

    def test_a_stray_end_of_a_copy_undoes_no_limit(self):
        self.apply(PERMIT.replace("permit", '@limit_rows("5") permit'))
        try:
            session = self.raw()
            for stray in (COPY_DONE, message(b"f", b"never mind\0")):
                session.send(stray, query("SELECT 1"), stray)
                session.answers()
                tags, error = self.said(session, stray, query("SELECT generate_series(1, 1000)"))
                self.assertEqual((tags.count(b"D"), error["C"]), (5, "54000"))
        finally:
            self.apply(self.policy)


class Recoded(Said):
    """Code can PREPARE and DEALLOCATE, and no text says so."""

    policy = CODE

    def approved(self, session, sql):
        session.send(query(sql))
        self.approve(self.pending()[0]["id"])
        return [tag for tag, _ in session.answers() if tag not in (b"N", b"S")]

    def held(self, session, *messages):
        session.send(*messages)
        self.gateway.run("review", "deny", self.pending()[0]["id"])
        self.assertEqual(fields(dict(session.answers())[b"E"])["C"], "42501")

    def test_behind_code_a_name_stands_for_what_the_server_says(self):
        session = self.raw()
        use = (bind("", "kept"), execute(), SYNC)
        self.said(session, parse("kept", "SELECT 'Ä'"), SYNC)
        self.assertEqual(self.approved(session, "DO $$ BEGIN PERFORM 1; END $$"), [b"C", b"Z"])
        self.assertEqual(self.said(session, *use)[0], [b"2", b"D", b"C", b"Z"])
        swaps = "EXECUTE 'DEALLOCATE kept'; EXECUTE 'PREPARE kept AS DELETE FROM carts'"
        self.approved(session, f"DO $$ BEGIN {swaps}; END $$")
        self.held(session, *use)
        # What fails has named it all the same.
        session.run("DEALLOCATE kept")
        self.said(session, parse("kept", "SELECT 1"), SYNC)
        self.assertEqual(self.approved(session, f"DO $$ BEGIN {swaps}; RAISE 'no'; END $$"), [b"E", b"Z"])
        self.held(session, query("EXECUTE kept"))
        self.assertEqual(self.rows(), 10)

