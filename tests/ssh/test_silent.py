"""Targets that take a request and do not answer it."""

import asyncio
import threading
import time
import unittest

from harness import free_port
from harness.sshd import keygen
from house import House, mark, until

try:
    import asyncssh
except ImportError:
    asyncssh = None


if asyncssh:

    class Silent(asyncssh.SSHServer):
        """Lets everybody in, and answers nothing of what counts."""

        def begin_auth(self, username):
            return False

        def session_requested(self):
            return Slow()

        async def server_requested(self, listen_host, listen_port):
            await asyncio.sleep(3600)

    class Slow(asyncssh.SSHServerSession):
        """Takes a program, and long to say so: with its thread the whole server is silent."""

        asked = threading.Event()

        def exec_requested(self, command):
            self.asked.set()
            time.sleep(5)
            return True


@unittest.skipIf(asyncssh is None, "asyncssh is not installed")
class Silence(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.house = House()
        cls.house.__enter__()
        cls.addClassCleanup(cls.house.__exit__)
        key = keygen(cls.house.home / "silent_host")
        cls.port = free_port()
        cls.loop = asyncio.new_event_loop()
        threading.Thread(target=cls.loop.run_forever, daemon=True).start()
        cls.addClassCleanup(cls.loop.call_soon_threadsafe, cls.leave)

        async def serve():
            await asyncssh.create_server(Silent, "127.0.0.1", cls.port, server_host_keys=[str(key)])

        asyncio.run_coroutine_threadsafe(serve(), cls.loop).result(20)
        url = f"ssh://root@127.0.0.1:{cls.port}?key=file:{cls.house.sshd.gateway_key}&host_key=file:{key}.pub"
        cls.house.gateway.run("target", "add", "silent", url, "--allow=remote-forward")

    @classmethod
    def leave(cls):
        for task in asyncio.all_tasks(cls.loop):
            task.cancel()
        cls.loop.call_soon(cls.loop.stop)

    def test_a_forwarding_that_nobody_answers_does_not_freeze_the_connection(self):
        there = free_port()
        options = ("-o", "User=silent", "-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:{there}:127.0.0.1:1")
        began = time.monotonic()
        done = self.house.ssh("true", options=options)
        self.assertEqual(done.returncode, 255)
        self.assertLess(time.monotonic() - began, 40)

        def recorded():
            entries = self.house.entries("--kind", "command", "--grep", f"remote:127.0.0.1:{there}")
            return next(iter(entries), None)

        outcome = until(recorded)["outcome"]
        self.assertEqual(outcome["status"], "unknown")
        self.assertIn("did not answer within 10 s", outcome["message"])

    def test_a_client_that_leaves_before_the_answer_may_have_had_its_command_run(self):
        command = f"true # {mark()}"
        client = self.house.popen(command, options=("-o", "User=silent"))
        self.assertTrue(Slow.asked.wait(60))
        client.kill()
        client.wait(30)
        outcome = self.house.entry(command)["outcome"]
        self.assertEqual(outcome["status"], "unknown")
        self.assertIn("the client went away before the target had answered", outcome["message"])
