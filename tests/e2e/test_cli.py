"""The gateway's own command line, as the contract has it: output, --json, exit codes, what it says when it fails."""

import json
import subprocess
import time
import unittest
from urllib.parse import quote

from harness import free_port
from harness.gateway import Gateway, until
from house import TARGET_PASSWORD, Case


class CommandLine(Case):
    def run_ok(self, *arguments, **environment):
        """Standard output of a command that works."""
        done = self.gateway.try_run(*arguments, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def fails(self, *arguments, code=1, **environment):
        """What a command says that fails: one sentence, and on the next line what to do."""
        done = self.gateway.try_run(*arguments, **environment)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        if code == 1:
            lines = done.stderr.strip().splitlines()
            self.assertEqual((lines[0][:11], len(lines)), ("trailgate: ", 2), done.stderr)
        return done.stderr

    def test_targets(self):
        url = self.house.target_url()
        self.assertIn(
            "target shown is added",
            self.run_ok("target", "add", "shown", url, "--label", "env=test", "--label", "team=a"),
        )
        one = self.gateway.objects("target", "show", "shown")[0]
        self.assertEqual((one["name"], one["kind"], one["labels"]), ("shown", "postgres", {"env": "test", "team": "a"}))
        self.assertNotIn(TARGET_PASSWORD, json.dumps(one))
        self.assertIn("shown", [target["name"] for target in self.gateway.objects("target", "list")])
        self.assertRegex(
            self.run_ok("target", "list"),
            r"shown +postgres +postgres://app@127\.0\.0\.1:\d+/orders\S* +env=test team=a",
        )
        test = self.gateway.objects("target", "test", "shown")[0]
        self.assertEqual((test["ok"], test["role"], test["database"], test["fault"]), (True, "app", "orders", None))
        self.assertRegex(test["server"], r"^PostgreSQL \d+")
        self.assertRegex(
            self.run_ok("target", "test", "shown"),
            "target shown answers in .*PostgreSQL.*role app, database orders, no TLS",
        )
        self.assertIn("already", self.fails("target", "add", "shown", url))
        self.assertIn("target shown is removed", self.run_ok("target", "remove", "shown"))
        self.assertIn("shown", self.fails("target", "show", "shown"))
        changes = self.entries("--kind", "control.changed", "--grep", "shown")
        self.assertEqual([entry["event"]["action"] for entry in changes], ["add", "remove"])
        self.assertEqual(changes[0]["principal"]["name"], "local-administrator")

    def test_a_target_that_can_not_be_used(self):
        self.run_ok("target", "add", "broken", self.house.target_url(port=free_port()))
        self.addCleanup(self.gateway.run, "target", "remove", "broken")
        self.assertIn("(network", self.fails("target", "test", "broken"))
        done = self.gateway.try_run("target", "test", "broken", "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["fault"]), (1, "network"))

    def test_a_password_from_a_file(self):
        file = self.gateway.home / "password"
        file.write_text(TARGET_PASSWORD + "\n")
        at = f"127.0.0.1:{self.server.port}/orders?sslmode=disable"
        self.run_ok("target", "add", "from-file", f"postgres://app:{quote(f'file:{file}', safe=':')}@{at}")
        file.unlink()  # read once and sealed
        self.addCleanup(self.gateway.run, "target", "remove", "from-file")
        self.assertTrue(self.gateway.objects("target", "test", "from-file")[0]["ok"])

    def test_principals(self):
        for kind in ("agent", "person", "service"):
            name = f"shown-{kind}"
            token = self.house.agent(name, kind=kind)
            self.assertRegex(token, "^tg_[0-9A-Za-z]{49}$")
            shown = self.gateway.objects(kind, "show", name)[0]
            self.assertEqual(
                (shown["name"], shown["kind"], shown["disabled"], len(shown["credentials"])), (name, kind, False, 1)
            )
            self.assertEqual(shown["credentials"][0]["state"], "active")
            self.assertEqual(
                shown["credentials"][0]["expires_at"] is not None, kind == "agent", "agents' tokens expire by default"
            )
            self.assertIn(name, self.run_ok(kind, "list"))
            self.assertIn(name, [one["name"] for one in self.gateway.objects(kind, "list")])
            minted = self.gateway.objects(kind, "rotate", name, "--grace", "1h")[0]
            self.house.tokens.append(minted["token"])
            self.assertNotEqual(minted["token"], token)
            self.assertEqual(len(self.gateway.objects(kind, "show", name)[0]["credentials"]), 2)
            self.run_ok(kind, "disable", name)
            self.assertTrue(self.gateway.objects(kind, "show", name)[0]["disabled"])
            self.run_ok(kind, "enable", name)
            self.run_ok(kind, "remove", name)
            self.fails(kind, "show", name)
        actions = [
            entry["event"]["action"] for entry in self.entries("--kind", "control.changed", "--grep", "shown-service")
        ]
        self.assertEqual(actions, ["add", "rotate", "disable", "enable", "remove"])

    def test_an_agent_acts_for_somebody_who_exists(self):
        self.assertIn("trailgate person add nobody-yet", self.fails("agent", "add", "lonely", "--for", "nobody-yet"))
        self.house.agent("grouped", "--for", "alice", "--group", "night", "--group", "reports", "--expires", "12h")
        shown = self.gateway.objects("agent", "show", "grouped")[0]
        self.assertEqual((shown["on_behalf_of"], sorted(shown["groups"])), ("alice", ["night", "reports"]))

    def test_the_connect_card_can_be_pasted(self):
        token = self.house.agent_token
        card = self.gateway.objects("connect", "chatgpt", "orders")[0]
        self.assertEqual((card["port"], card["target"]), (self.gateway.port, "orders"))
        self.assertNotIn("tg_", json.dumps(card))
        filled = self.gateway.objects("connect", "chatgpt", "orders", "--token", token)[0]
        snippets = {snippet["name"]: snippet["text"] for snippet in filled["snippets"]}
        environment = self.gateway.environment(PGAPPNAME=self.application)
        by_dsn = subprocess.run(
            ["psql", "-XAt", snippets["dsn"], "-c", "SELECT 41 + 1"], env=environment, capture_output=True, text=True
        )
        self.assertEqual(by_dsn.stdout, "42\n", by_dsn.stderr)
        shell = subprocess.run(
            ["sh", "-c", snippets["environment"] + "\npsql -XAt -c 'SELECT 41 + 1'"],
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(shell.stdout, "42\n", shell.stderr)
        passwords = self.gateway.home / "pgpass"
        passwords.write_text(snippets["pgpass"] + "\n")
        passwords.chmod(0o600)
        pasted = subprocess.run(
            ["sh", "-c", snippets["psql"] + " -XAt -c 'SELECT 41 + 1'"],
            env=environment | {"PGPASSFILE": str(passwords)}, capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual(pasted.stdout, "42\n", pasted.stderr)
        self.assertEqual(len(self.sessions(3)), 3)
        self.assertIn("psql ", self.run_ok("connect", "chatgpt", "orders"))
        self.assertIn("nowhere", self.fails("connect", "chatgpt", "nowhere"))

    def test_the_trail_is_listed_filtered_and_shown(self):
        self.psql("SELECT 'needle-91', 1", "INSERT INTO nothing_there VALUES (1)")
        select, insert = self.commands()
        mine = ("--since", self.since, "--grep", "needle-91")
        self.assertEqual([entry["id"] for entry in self.gateway.entries(*mine, "--kind", "command")], [select["id"]])
        for filters, found in [
            (["--class", "write", "--status", "error"], [insert["id"]]),
            (["--class", "read", "--status", "error"], []),
            (["--principal", "alice", "--kind", "command"], [select["id"], insert["id"]]),
            (["--target", "nowhere"], []),
            (["--kind", "command", "--limit", "1"], [insert["id"]]),
        ]:
            listed = self.gateway.objects("trail", "list", "--session", select["session"], *filters)[::-1]
            self.assertEqual([entry["id"] for entry in listed], found, filters)
        newest_first = self.gateway.objects("trail", "--session", select["session"])
        self.assertEqual([entry["seq"] for entry in newest_first], [4, 3, 2, 1])
        self.assertIn("needle-91", self.run_ok("trail", *mine))
        shown = self.gateway.objects("trail", "show", insert["id"])[0]
        self.assertEqual(shown, insert)
        self.assertIn('relation "nothing_there" does not exist', self.run_ok("trail", "show", insert["id"]))
        self.fails("trail", "show", insert["id"].rsplit("-", 1)[0] + "-99")

    def test_reading_is_an_entry(self):
        self.psql("SELECT 'read by somebody'")
        entry = self.one_command()
        self.run_ok("trail", "show", entry["id"])
        reads = until(lambda: self.entries("--kind", "trail.read", "--grep", entry["id"]))
        self.assertEqual((reads[0]["event"]["read"], reads[0]["event"]["entry"]), ("show", entry["id"]))
        self.assertEqual(reads[0]["principal"]["name"], "local-administrator")

    def test_tail_shows_what_comes(self):
        tail = subprocess.Popen(
            [self.gateway.binary, "trail", "tail", "--json", "--kind", "command", "--grep", "tailed", "--limit", "2"],
            env=self.gateway.environment(TRAILGATE_DATA=str(self.gateway.data)), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        until(lambda: self.entries("--kind", "trail.read", "--grep", "tail"))
        self.psql("SELECT 'tailed 1'", "SELECT 'other'", "SELECT 'tailed 2'")
        out, _ = tail.communicate(timeout=20)
        texts = [json.loads(line)["command"]["text"] for line in out.splitlines()]
        self.assertEqual((texts, tail.returncode), (["SELECT 'tailed 1'", "SELECT 'tailed 2'"], 0))

    def test_verify(self):
        self.psql("SELECT 1")
        self.sessions()
        found = self.gateway.verify()
        self.assertTrue(found["sound"], found)
        self.assertEqual((found["problems"], found["findings"], found["payloads"]["missing"]), (0, [], 0))
        self.assertGreater(found["entries"], 0)
        self.assertIn("verif", self.run_ok("trail", "verify"))

    def test_doctor(self):
        checks = [json.loads(line) for line in self.gateway.try_run("doctor", "--json").stdout.splitlines()]
        by_name = {check["check"]: check["verdict"] for check in checks}
        self.assertEqual(by_name["target orders"], "ok", checks)
        self.assertNotIn(
            "failed", {verdict for name, verdict in by_name.items() if not name.startswith("target ")}, checks
        )

    def test_over_http_with_a_token(self):
        administrator = self.house.person("root", "--role", "administrator")
        auditor = self.house.person("audit", "--role", "auditor")
        remote = {"TRAILGATE_URL": f"http://127.0.0.1:{self.gateway.web_port}", "TRAILGATE_DATA": "/nonexistent"}
        self.assertIn("orders", self.run_ok("target", "list", TRAILGATE_TOKEN=administrator, **remote))
        self.run_ok("target", "add", "remotely", self.house.target_url(), TRAILGATE_TOKEN=administrator, **remote)
        self.run_ok("target", "remove", "remotely", TRAILGATE_TOKEN=administrator, **remote)
        changes = self.entries("--kind", "control.changed", "--grep", "remotely")
        self.assertEqual({entry["principal"]["name"] for entry in changes}, {"root"})
        self.assertIn("auditor", self.fails("trail", TRAILGATE_TOKEN=administrator, **remote))
        self.run_ok("trail", TRAILGATE_TOKEN=auditor, **remote)
        self.fails("target", "remove", "orders", TRAILGATE_TOKEN=auditor, **remote)
        self.assertIn(
            "agents can never administrate",
            self.fails("person", "add", "eve", TRAILGATE_TOKEN=self.house.agent_token, **remote),
        )
        self.fails("target", "list", TRAILGATE_TOKEN="tg_wrong", **remote)
        self.assertIn("TRAILGATE_TOKEN", self.fails("target", "list", TRAILGATE_TOKEN="", **remote))

    def test_wrong_usage_ends_with_2(self):
        for line in ("", "fly", "target", "target add", "target add Orders postgres://h/d", "trail --limit 0",
                     "trail --kind nonsense", "trail show 3", "agent add x --expires soon", "up --config"):  # fmt: skip
            self.assertNotEqual(self.fails(*line.split(), code=2), "", line)

    def test_help_and_version_end_with_0(self):
        for line in ("--help", "--version", "target add --help", "trail --help"):
            self.assertEqual(self.gateway.try_run(*line.split()).returncode, 0, line)


class WithoutAGateway(unittest.TestCase):
    """What can be done offline, and what is said of the rest."""

    def test_before_there_is_one(self):
        gateway = Gateway()
        self.addCleanup(gateway.__exit__)
        for line in ("target list", "agent add x", "trail", "trail tail", "connect a b", "trail verify"):
            done = gateway.try_run(*line.split())
            self.assertEqual((done.returncode, len(done.stderr.strip().splitlines())), (1, 2), done.stderr)
        self.assertFalse(gateway.data.exists(), "asking makes no files")
        self.assertEqual(gateway.try_run("doctor").returncode, 1)

    def test_after_it_has_stopped(self):
        with Gateway() as gateway:
            gateway.add_agent("chatgpt")
            live = gateway.entries("--kind", "control.changed")
            self.assertEqual(gateway.stop(), 0)
            self.assertEqual(gateway.entries("--kind", "control.changed"), live, "the same from the files")
            self.assertTrue(gateway.verify()["sound"])
            shown = gateway.objects("trail", "show", live[0]["id"])
            self.assertEqual(shown, live)
            refused = gateway.try_run("agent", "list")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("no gateway answers", refused.stderr)
            began = time.monotonic()
            gateway.start()
            self.assertLess(time.monotonic() - began, 10)
            self.assertEqual([agent["name"] for agent in gateway.objects("agent", "list")], ["chatgpt"])

    def test_settings_that_make_no_sense(self):
        gateway = Gateway()
        self.addCleanup(gateway.__exit__)
        gateway.home.joinpath("bad.toml").write_text("[postgres]\nlisen = 1\n")
        done = gateway.try_run("up", "--config", gateway.home / "bad.toml")
        self.assertEqual(done.returncode, 1)
        self.assertIn("lisen", done.stderr)


if __name__ == "__main__":
    unittest.main()
