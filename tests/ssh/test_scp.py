"""scp's legacy protocol: what became of each file is what the side that takes it has said."""

import subprocess
import time
import unittest

from house import Case, House, mark, sha256, until


class Scp(Case):
    def setUp(self):
        super().setUp()
        self.name = mark()
        self.there = self.house.sshd.home / f"there-{self.name}"
        self.there.mkdir(mode=0o777)
        self.here = self.house.home / f"here-{self.name}"
        self.here.mkdir()

    def files(self, folder, *names):
        for name in names:
            (folder / name).write_bytes(self.content(name))
        return [folder / name for name in names]

    def content(self, name):
        return f"the content of {name}".encode() * 100

    def scp(self, *arguments):
        return self.house.run("scp", "-F", self.house.config, "-O", *arguments)

    def outcome(self, text):
        return self.house.entry(text)["outcome"]

    def carried(self, text, direction, data):
        outcome = self.outcome(text)
        self.assertEqual((outcome["status"], outcome[direction]), ("ok", len(data)), outcome)
        self.assertEqual(outcome["not_kept"]["digest"].removeprefix("sha256:"), sha256(data))

    def not_carried(self, text, message):
        outcome = self.outcome(text)
        self.assertEqual((outcome["status"], outcome["bytes_in"], outcome["bytes_out"]), ("error", 0, 0), outcome)
        self.assertIn(message, outcome["message"])

    def raw(self, command, data):
        """The other half of scp, and a client that writes the protocol by itself."""
        return self.house.ssh(command, data=data)

    def captured(self, command, stream):
        entry = self.house.entry(command)
        gateway = self.house.gateway
        shown = subprocess.run([gateway.binary, "trail", "show", entry["id"], "--captured", stream, "--data", gateway.data],
                               capture_output=True, check=True, env=gateway.environment())  # fmt: skip
        return shown.stdout

    def test_files_around_one_that_the_target_does_not_take(self):
        for place in (0, 1, 2):
            there = self.there / f"at-{place}"
            names = ["a", "b"]
            names.insert(place, "closed")
            # Nobody can write a file there, root neither.
            (there / "closed").mkdir(parents=True)
            done = self.scp(*self.files(self.here, *names), f"web1:{there}")
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"Is a directory", done.stderr)
            for name in ("a", "b"):
                self.assertEqual((there / name).read_bytes(), self.content(name))
                self.carried(f"put {there}/{name}", "bytes_in", self.content(name))
            self.not_carried(f"put {there}/closed", "Is a directory")

    def test_files_around_one_that_is_not_here(self):
        self.files(self.here, "a", "b")
        done = self.scp(self.here / "none", self.here / "a", self.here / "none", self.here / "b", f"web1:{self.there}/")
        self.assertEqual(done.returncode, 1)
        for name in ("a", "b"):
            self.assertEqual((self.there / name).read_bytes(), self.content(name))
            self.carried(f"put {self.there}/{name}", "bytes_in", self.content(name))

    def test_a_folder_that_the_target_does_not_take(self):
        tree = self.here / "tree"
        for folder in ("a", "m", "z"):
            (tree / folder).mkdir(parents=True)
            self.files(tree / folder, "file")
        self.files(tree, "last")
        (self.there / "tree").mkdir()
        (self.there / "tree" / "m").write_bytes(b"a file")
        done = self.scp("-r", "-p", tree, f"web1:{self.there}")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"Not a directory", done.stderr)
        for path in ("a/file", "z/file", "last"):
            name = path.rsplit("/", 1)[-1]
            self.assertEqual((self.there / "tree" / path).read_bytes(), self.content(name))
            self.carried(f"put tree/{path} at {self.there}", "bytes_in", self.content(name))
        texts = [entry["command"]["text"] for entry in self.house.entries("--kind", "command", "--grep", self.name)]
        self.assertFalse([text for text in texts if "m/" in text.replace(str(self.there), "")], texts)

    def test_files_from_the_target_around_those_that_are_not_taken_or_not_there(self):
        self.files(self.there, "a", "closed", "b")
        (self.here / "closed").mkdir()
        paths = " ".join(str(self.there / name) for name in ("closed", "a", "none", "closed", "b"))
        done = self.scp("-T", f"web1:{paths}", f"{self.here}/")
        self.assertEqual(done.returncode, 1)
        for name in ("a", "b"):
            self.assertEqual((self.here / name).read_bytes(), self.content(name))
            self.carried(f"get {self.there}/{name}", "bytes_out", self.content(name))
        self.not_carried(f"get {self.there}/closed", "Is a directory")

    def test_folders_and_patterns_from_the_target(self):
        (self.there / "tree" / "sub").mkdir(parents=True)
        self.files(self.there / "tree" / "sub", "one", "two")
        self.files(self.there, "x.log", "y.log")
        self.assertEqual(self.scp("-r", f"web1:{self.there}/tree", self.here).returncode, 0)
        self.assertEqual(self.scp(f"web1:{self.there}/*.log", self.here).returncode, 0)
        self.assertEqual((self.here / "tree" / "sub" / "two").read_bytes(), self.content("two"))
        for path in ("tree/sub/one", "tree/sub/two", "x.log", "y.log"):
            self.carried(f"get {self.there}/{path}", "bytes_out", self.content(path.rsplit("/", 1)[-1]))

    def test_a_path_that_may_be_a_folder_or_the_file_is_both(self):
        [up] = self.files(self.here, "up")
        self.assertEqual(self.scp(up, f"web1:{self.there}/as").returncode, 0)
        entry = self.house.entry(f"put up at {self.there}/as")
        self.assertEqual(set(entry["command"]["objects"]), {f"{self.there}/as", f"{self.there}/as/up"})
        self.assertEqual((self.there / "as").read_bytes(), self.content("up"))

    def test_a_client_that_does_not_wait_is_made_to(self):
        (self.there / "closed").mkdir()
        done = self.raw(f"scp -d -t {self.there}", b"C0644 1 a\nx\0C0644 2 b\nyz\0")
        self.assertEqual((done.returncode, done.stdout), (0, b"\0" * 5), done.stderr)
        self.carried(f"put {self.there}/a", "bytes_in", b"x")
        self.carried(f"put {self.there}/b", "bytes_in", b"yz")
        # What it takes for content the target takes for the next line.
        done = self.raw(f"scp -d -t {self.there}", b"C0644 13 closed\nC0644 1 c\nx\0\0")
        self.assertEqual((self.there / "c").read_bytes(), b"x")
        self.carried(f"put {self.there}/c", "bytes_in", b"x")
        self.not_carried(f"put {self.there}/closed", "Is a directory")

    def test_answers_that_come_before_they_are_asked_for(self):
        self.files(self.there, "a")
        done = self.raw(f"scp -f {self.there}/a", b"\0\0\0\0")
        content = self.content("a")
        self.assertEqual((done.returncode, done.stdout), (0, b"C0644 %d a\n%s\0" % (len(content), content)))
        self.carried(f"get {self.there}/a", "bytes_out", content)

    def test_a_sender_that_could_not_read_all_of_its_file(self):
        done = self.raw(f"scp -d -t {self.there}", b"C0644 2 a\nxy\x01scp: a: Input/output error\nC0644 1 b\nz\0")
        self.assertEqual((self.there / "b").read_bytes(), b"z", done.stderr)
        outcome = self.outcome(f"put {self.there}/a")
        self.assertEqual((outcome["status"], outcome["bytes_in"]), ("error", 2))
        self.assertIn("Input/output error", outcome["message"])
        self.carried(f"put {self.there}/b", "bytes_in", b"z")

    def test_lines_that_scp_would_read_differently_end_the_copy(self):
        for line in (b"C0644 1 " + b"a" * 2040 + b"\n", b"C0644 1 a\0b\n", b"C0644 1 ../a\n", b"hello\n", b"\0C0644 1 a\n"):
            done = self.raw(f"scp -d -t {self.there}", line + b"x\0")
            self.assertEqual(done.returncode, 1, line)
            self.assertIn(b"trailgate: ", done.stderr)
        self.assertEqual(list(self.there.iterdir()), [])

    def test_what_the_other_side_of_a_copy_says_is_kept(self):
        self.files(self.there, "a")
        up, down = f"scp -t {self.there}/b", f"scp -f {self.there}/a"
        self.raw(up, b"C0644 1 b\nx\0")
        self.raw(down, b"\0\0\0")
        self.assertEqual(self.captured(up, "stdout"), b"\0\0\0")
        self.assertEqual(self.captured(down, "stdin"), b"\0\0\0")

    def test_more_than_a_copy_is_a_command_like_any_other(self):
        [file] = self.files(self.there, "a")
        for command in (f"scp -f {file}; bash -s", f"scp -f {file} -t {self.there}/b; bash -s", f"scp -tf {file}; bash -s",
                        f"scp -f {file} >/dev/null </dev/null; bash -s"):  # fmt: skip
            # The first half of the input is scp's, if it reads any.
            script = f"\0\0\0\necho ran {mark()}\n".encode()
            self.raw(command, script)
            self.assertEqual(self.captured(command, "stdin"), script)
            self.assertEqual(self.house.entry(command)["command"]["class"], "execute")


POLICY = """
@id("flow") permit (principal, action, resource);
@id("closed") forbid (principal, action == Action::"write", resource == Object::"web1HOME/closed");
@id("secret") forbid (principal, action == Action::"read", resource == Object::"web1HOME/secret");
@id("ask") @review("dba") @hold_for("60s")
forbid (principal, action == Action::"write", resource == Object::"web1HOME/asked");
@id("ask-get") @review("dba") @hold_for("60s")
forbid (principal, action == Action::"read", resource == Object::"web1HOME/asked-for") when { context.verb == "GET" };
"""


class Policy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.house = House()
        cls.house.__enter__()
        cls.addClassCleanup(cls.house.__exit__)
        cls.home = cls.house.sshd.home
        cls.bob = cls.house.gateway.run("person", "add", "bob", "--group", "dba").strip()
        policy = cls.house.home / "policy.cedar"
        policy.write_text(POLICY.replace("HOME", str(cls.home)))
        cls.house.gateway.run("policy", "apply", policy)

    def start(self, *arguments):
        return subprocess.Popen(["scp", "-F", self.house.config, "-O", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                stdin=subprocess.DEVNULL, env=self.house.environment())  # fmt: skip

    def here(self, *names):
        folder = self.house.home / mark()
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"content")
        return [folder / name for name in names]

    def test_rules_on_paths_hold_for_files(self):
        [closed, other] = self.here("closed", "other")
        # By its own name in a folder, and by another name.
        for arguments in ((closed, f"web1:{self.home}/"), (closed, f"web1:{self.home}"), (other, f"web1:{self.home}/closed")):
            client = self.start(*arguments)
            _, stderr = client.communicate(timeout=60)
            self.assertNotEqual(client.returncode, 0)
            self.assertIn(b"trailgate: refused by policy", stderr)
            self.assertFalse((self.home / "closed").exists())
        (self.home / "secret").write_bytes(b"secret")
        for source in (self.home / "secret", self.home / "secre*"):
            client = self.start(f"web1:{source}", f"{closed.parent}/")
            _, stderr = client.communicate(timeout=60)
            self.assertNotEqual(client.returncode, 0)
            self.assertIn(b"trailgate: refused by policy", stderr)
            self.assertFalse((closed.parent / "secret").exists())

    def pending(self):
        def found():
            reviews = self.house.gateway.objects("review", "list")
            return next((r for r in reviews if "/asked" in str(r) and r["state"] == "pending"), None)

        return until(found)

    def test_a_file_that_is_held_is_told_of_at_once_and_goes_on_when_it_is_approved(self):
        [asked] = self.here("asked")
        client = self.start(asked, f"web1:{self.home}/")
        began = time.monotonic()
        notice = client.stderr.readline()
        self.assertLess(time.monotonic() - began, 10)
        self.assertIn(b"trailgate: held for review", notice)
        web = f"http://127.0.0.1:{self.house.gateway.web_port}"
        environment = {"TRAILGATE_TOKEN": self.bob, "TRAILGATE_URL": web}
        self.house.gateway.run("review", "approve", self.pending()["id"], **environment)
        client.communicate(timeout=60)
        self.assertEqual(client.returncode, 0)
        self.assertEqual((self.home / "asked").read_bytes(), b"content")
        (self.home / "asked").unlink()

    def test_a_client_that_leaves_while_its_file_is_held_is_recorded(self):
        [asked] = self.here("asked")
        client = self.start(asked, f"web1:{self.home}/")
        self.assertIn(b"held", client.stderr.readline())
        self.pending()
        client.terminate()
        client.wait(30)
        self.cancelled(f"put {self.home}/asked")
        self.assertFalse((self.home / "asked").exists())

    def cancelled(self, text):
        def recorded():
            entries = self.house.entries("--kind", "command", "--grep", text)
            return next((e for e in entries if e["command"]["text"] == text and e["outcome"]["status"] == "cancelled"), None)

        return until(recorded)

    def test_a_client_that_leaves_while_what_it_gets_is_held_is_recorded(self):
        (self.home / "asked-for").write_bytes(b"content")
        [here] = self.here("here")
        client = self.start(f"web1:{self.home}/asked-for", here)
        self.assertIn(b"held", client.stderr.readline())
        client.terminate()
        client.wait(30)
        self.cancelled(f"get {self.home}/asked-for")
