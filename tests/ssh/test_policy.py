"""Commands, files and shells that policy refuses or that wait for people."""

import socket
import threading
import time
import unittest

from harness import free_port
from house import House, mark, until

POLICY = """
@id("flow") permit (principal, action, resource);

@id("ask") @review("dba") @hold_for("3s")
forbid (principal, action == Action::"write", resource) when { context.verb == "rm" };

@id("ask-long") @review("dba") @hold_for("60s")
forbid (principal, action == Action::"write", resource) when { context.verb == "touch" };

@id("never") @advice("ask for a copy instead")
forbid (principal, action == Action::"write", resource) when { context.verb == "mv" };

@id("no-shells") forbid (principal, action == Action::"call", resource == Function::"web1.shell");

@id("no-entry") @advice("use web1 instead")
forbid (principal, action == Action::"connect", resource == Target::"shut");

@id("ask-listening") @review("dba") @hold_for("60s")
forbid (principal, action == Action::"forward", resource in Target::"open1");

@id("no-removing") forbid (principal, action == Action::"transfer", resource) when { context.verb == "REMOVE" };
"""


class Policy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.house = House()
        cls.house.__enter__()
        cls.addClassCleanup(cls.house.__exit__)
        cls.bob = cls.house.gateway.run("person", "add", "bob", "--group", "dba").strip()
        policy = cls.house.home / "policy.cedar"
        policy.write_text(POLICY)
        cls.house.gateway.run("policy", "apply", policy)
        cls.house.gateway.run("target", "add", "open1", cls.house.sshd.url(), "--allow=remote-forward")
        cls.house.gateway.run("target", "add", "shut", cls.house.sshd.url())

    def file(self):
        path = self.house.sshd.home / f"file-{mark()}"
        path.write_text("here")
        path.chmod(0o666)
        return path

    def pending(self, text):
        def found():
            reviews = self.house.gateway.objects("review", "list")
            return next((r for r in reviews if text in str(r) and r["state"] == "pending"), None)

        return until(found)

    def as_bob(self):
        web = f"http://127.0.0.1:{self.house.gateway.web_port}"
        return {"TRAILGATE_TOKEN": self.bob, "TRAILGATE_URL": web}

    def answer(self, verdict, review, *options):
        return self.house.gateway.run("review", verdict, review["id"], *options, **self.as_bob())

    def test_refused(self):
        path = self.file()
        command = f"mv {path} {path}.moved"
        done = self.house.ssh(command)
        self.assertEqual((done.returncode, done.stdout), (77, b""), done.stderr)
        self.assertTrue(done.stderr.startswith(b"trailgate: "), done.stderr)
        self.assertIn(b"ask for a copy instead", done.stderr)
        self.assertTrue(path.exists())
        self.assertEqual(self.house.entry(command)["outcome"]["status"], "denied")

    def test_a_command_that_only_hides_what_is_refused_is_refused(self):
        path = self.file()
        for command in (f"m''v {path} x", f"sh -c 'mv {path} x'", f"echo {path} | xargs -I% mv % x", f"eval 'mv {path} x'",
                        f"$(echo mv) {path} x", f"python3 -c 'import os; os.rename(\"{path}\", \"x\")'"):  # fmt: skip
            done = self.house.ssh(command)
            self.assertEqual(done.returncode, 77, (command, done.stderr))
            self.assertTrue(path.exists(), command)

    def test_held_and_approved(self):
        path = self.file()
        command = f"touch {path} && echo ran"
        client = self.house.popen(command)
        began = time.monotonic()
        notice = client.stderr.readline()
        self.assertLess(time.monotonic() - began, 5)
        self.assertTrue(notice.startswith(b"trailgate: "), notice)
        review = self.pending(str(path))
        self.assertIn(review["id"].encode(), notice)
        self.answer("approve", review)
        stdout, _ = client.communicate(timeout=30)
        self.assertEqual((client.returncode, stdout), (0, b"ran\n"))
        entry = self.house.entry(command)
        self.assertEqual(entry["decision"]["review"], review["id"])

    def test_held_and_denied(self):
        path = self.file()
        client = self.house.popen(f"touch {path}.new")
        self.answer("deny", self.pending(f"{path}.new"), "--note", "not today")
        _, stderr = client.communicate(timeout=30)
        self.assertEqual(client.returncode, 77, stderr)
        self.assertIn(b"not today", stderr)
        self.assertFalse(path.with_name(f"{path.name}.new").exists())

    def test_held_too_long_and_run_again_once_it_is_approved(self):
        path = self.file()
        command = f"rm {path}"
        began = time.monotonic()
        done = self.house.ssh(command)
        self.assertEqual(done.returncode, 75, done.stderr)
        self.assertLess(time.monotonic() - began, 20)
        self.assertIn(b"identical", done.stderr)
        self.assertTrue(path.exists())
        self.answer("approve", self.pending(command))
        # Another command is another question.
        self.assertEqual(self.house.ssh(f"rm {path} ").returncode, 75)
        self.assertTrue(path.exists())
        self.house.ssh(command, check=0)
        self.assertFalse(path.exists())
        # The approval is used up.
        self.assertEqual(self.house.ssh(command).returncode, 75)

    def test_held_in_a_terminal(self):
        path = self.file()
        done = self.house.ssh(f"mv {path} x", options=("-tt",))
        self.assertEqual(done.returncode, 77)
        self.assertTrue((done.stdout + done.stderr).rstrip().endswith(b"."), done)

    def test_a_held_command_holds_up_no_other_on_its_connection(self):
        control = self.house.home / "held"
        options = ("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=20")
        self.house.ssh("true", options=options, check=0)
        path = self.file()
        held = self.house.popen(f"touch {path}", options=options)
        held.stderr.readline()
        began = time.monotonic()
        self.assertEqual(self.house.ssh("echo quick", options=options, check=0).stdout, b"quick\n")
        self.assertLess(time.monotonic() - began, 5)
        self.answer("approve", self.pending(str(path)))
        held.communicate(timeout=30)
        self.assertEqual(held.returncode, 0)
        self.house.ssh(options=(*options, "-O", "exit"))

    def test_who_leaves_while_held_takes_the_question_back(self):
        path = self.file()
        held = self.house.popen(f"touch {path}")
        held.stderr.readline()
        review = self.pending(str(path))
        held.kill()
        held.wait()
        until(lambda: self.house.gateway.objects("review", "show", review["id"])[0]["state"] != "pending")

    def test_shells_are_a_permission_of_their_own(self):
        done = self.house.run("ssh", "-F", self.house.config, "-tt", "web1", data=b"echo in\nexit\n")
        self.assertEqual(done.returncode, 77, done)
        self.assertNotIn(b"in\r\n", done.stdout)
        done = self.house.run("ssh", "-F", self.house.config, "web1", data=b"echo in\nexit\n")
        self.assertEqual(done.returncode, 77, done)
        self.house.ssh("true", check=0)

    def test_one_request_of_sftp_is_refused_and_the_others_go_on(self):
        path = self.file()
        batch = f"-rm {path}\nls {path}\nget {path} {self.house.home}/{path.name}\n"
        done = self.house.run("sftp", "-F", self.house.config, "-b", "-", "web1", data=batch.encode(), check=0)
        self.assertIn(path.name.encode(), done.stdout)
        self.assertIn(b"trailgate: ", done.stderr)
        self.assertTrue(path.exists())
        self.assertEqual(self.house.entry(f"remove {path}")["outcome"]["status"], "denied")

    def test_a_target_that_may_not_be_entered(self):
        done = self.house.ssh("true", options=("-o", "User=shut"))
        self.assertEqual((done.returncode, done.stdout), (77, b""), done.stderr)
        self.assertIn(b"trailgate: refused by policy", done.stderr)
        self.assertIn(b"use web1 instead", done.stderr)

    def test_a_forwarding_that_needs_approval_holds_up_nothing_and_goes_through_after_it(self):
        port = free_port()
        control = self.house.home / f"listening-{mark()}"
        options = ("-o", "User=open1", "-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=60")
        self.house.ssh("true", options=options, check=0)
        try:
            asks = ("-O", "forward", "-R", f"127.0.0.1:{port}:127.0.0.1:1")
            began = time.monotonic()
            done = self.house.ssh(options=(*options, *asks))
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(self.house.ssh("echo quick", options=options, check=0).stdout, b"quick\n")
            self.assertLess(time.monotonic() - began, 20)
            review = self.pending(f"remote:127.0.0.1:{port}")
            self.answer("approve", review)
            done = self.house.ssh(options=(*options, *asks), check=0)
            with socket.create_connection(("127.0.0.1", port), timeout=10):
                pass
            done = self.house.ssh(options=(*options, "-O", "cancel", *asks[2:]), check=0)
        finally:
            self.house.ssh(options=(*options, "-O", "exit"))
        # A client that is verbose is told what to do.
        done = self.house.ssh("true", options=("-v", "-o", "LogLevel=DEBUG", "-o", "User=open1", "-R", f"127.0.0.1:{port}:127.0.0.1:1"))
        self.assertIn(b"run the identical command again once approved", done.stderr)

    def test_many_held_at_once(self):
        path = self.file()
        done = [None] * 5

        def run(number):
            done[number] = self.house.ssh(f"rm {path}-{number}").returncode

        threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(done, [75] * 5)
