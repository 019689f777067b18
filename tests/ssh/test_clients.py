"""Drivers and tools that are not OpenSSH."""

import asyncio
import os
import shutil
import unittest

from house import PATIENCE_S, Case, mark, sha256, until

try:
    import paramiko
except ImportError:
    paramiko = None
try:
    import asyncssh
except ImportError:
    asyncssh = None


@unittest.skipIf(paramiko is None, "paramiko is not installed")
class Paramiko(Case):
    def client(self, **how):
        client = paramiko.SSHClient()
        client.load_host_keys(self.plain_known_hosts())
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect("127.0.0.1", self.house.port, "web1", look_for_keys=False, allow_agent=False, timeout=20, **how)
        self.addCleanup(client.close)
        return client

    def plain_known_hosts(self):
        path = self.house.home / "known-plain"
        lines = [line for line in self.house.known_hosts.read_text().splitlines() if not line.startswith("@")]
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def test_command_by_key(self):
        client = self.client(key_filename=str(self.house.key))
        stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 4")
        stdin.write(b"in")
        stdin.channel.shutdown_write()
        self.assertEqual((stdout.read(), stderr.read(), stdout.channel.recv_exit_status()), (b"in", b"err\n", 4))

    def test_input_does_not_wait_for_output_that_nobody_reads(self):
        client = self.client(key_filename=str(self.house.key))
        stdin, stdout, _ = client.exec_command("head -c 8000000 /dev/zero & wc -c >&2; wait")
        data = bytes(1_000_000)
        for _ in range(20):
            stdin.channel.settimeout(30)
            stdin.channel.sendall(data)
        stdin.channel.shutdown_write()
        self.assertEqual(len(stdout.read()), 8_000_000)
        self.assertEqual(stdout.channel.recv_exit_status(), 0)

    def test_the_token_is_a_password(self):
        client = self.client(password=self.house.token)
        text = f"echo hello # {mark()}"
        _, stdout, _ = client.exec_command(text)
        self.assertEqual(stdout.read(), b"hello\n")
        self.assertEqual(self.house.entry(text)["principal"]["proven_by"], "token-in-ssh")
        with self.assertRaises(paramiko.AuthenticationException):
            self.client(password="tg_wrong")

    def test_sftp(self):
        data = os.urandom(500_000)
        path = str(self.house.sshd.home / f"paramiko-{mark()}")
        sftp = self.client(key_filename=str(self.house.key)).open_sftp()
        with sftp.open(path, "wb") as file:
            file.set_pipelined(True)
            file.write(data)
        # Where the first answers are there before the last requests are out, paramiko takes its prefetching for done and
        # asks again: what was read twice has no digest. A busy machine gets more than one try.
        for _ in range(10):
            with sftp.open(path, "rb") as file:
                file.prefetch()
                self.assertEqual(file.read(), data)
            outcome = self.house.entry(f"get {path}")["outcome"]
            if outcome["bytes_out"] == len(data):
                break
        self.assertEqual(outcome["not_kept"]["digest"].removeprefix("sha256:"), sha256(data))


@unittest.skipIf(asyncssh is None, "asyncssh is not installed")
class Asyncssh(Case):
    def test_many_commands_on_one_connection(self):
        async def run():
            connection = asyncssh.connect(
                "127.0.0.1", self.house.port, username="web1", client_keys=[str(self.house.key)],
                known_hosts=str(self.house.known_hosts),
            )  # fmt: skip
            async with connection as client:
                # Without anything to send asyncssh leaves the input open, and cat would wait for it.
                runs = (client.run(f"echo {n}; cat", input="x" * n) for n in range(1, 31))
                done = await asyncio.wait_for(asyncio.gather(*runs), PATIENCE_S)
                return [one.stdout for one in done]

        self.assertEqual(asyncio.run(run()), [f"{n}\n{'x' * n}" for n in range(1, 31)])

    def test_a_signal_reaches_the_program_and_is_recorded(self):
        text = mark()
        # sshd sends signals only to programs of accounts that are not its own.
        user = "web1"
        if other := self.house.sshd.other:
            self.house.gateway.run("target", "add", f"s{text}", self.house.sshd.url(), "--allow", f"login:{other}")
            user = f"{other}@s{text}"

        async def run():
            connection = asyncssh.connect(
                "127.0.0.1", self.house.port, username=user, client_keys=[str(self.house.key)],
                known_hosts=str(self.house.known_hosts),
            )  # fmt: skip
            async with connection as client:
                process = await client.create_process(f"echo begun; exec sleep 30 # {text}")
                await process.stdout.readline()
                process.send_signal("TERM")
                done = await asyncio.wait_for(process.wait(), 20)
                return done.exit_signal

        self.assertEqual(asyncio.run(run())[0], "TERM")
        outcome = self.house.entry(f"echo begun; exec sleep 30 # {text}")["outcome"]
        self.assertEqual((outcome["status"], outcome["exit"]), ("error", None))
        self.assertIn("TERM", outcome["message"])
        self.house.entry("signal TERM")

    def test_sftp(self):
        async def run(path, data):
            connection = asyncssh.connect(
                "127.0.0.1", self.house.port, username="web1", client_keys=[str(self.house.key)],
                known_hosts=str(self.house.known_hosts),
            )  # fmt: skip
            async with connection as client, client.start_sftp_client() as sftp:
                async with sftp.open(path, "wb") as file:
                    await file.write(data)
                async with sftp.open(path, "rb") as file:
                    return await file.read()

        data = os.urandom(400_000)
        path = str(self.house.sshd.home / f"asyncssh-{mark()}")
        self.assertEqual(asyncio.run(run(path, data)), data)
        entry = self.house.entry(f"put {path}")
        self.assertEqual(entry["outcome"]["not_kept"]["digest"].removeprefix("sha256:"), sha256(data))


@unittest.skipIf(shutil.which("ansible") is None, "ansible is not installed")
class Ansible(Case):
    def test_modules_run(self):
        inventory = self.house.home / "inventory"
        inventory.write_text(f"web1 ansible_ssh_common_args='-F {self.house.config}' ansible_python_interpreter=/usr/bin/python3\n")
        for module, said in [(("-m", "ping"), b"pong"), (("-m", "command", "-a", "echo from-ansible"), b"from-ansible")]:
            done = self.house.run("ansible", "-i", inventory, "web1", *module)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn(said, done.stdout)
        until(lambda: self.house.entries("--kind", "command", "--grep", "ansible"))

    def test_a_playbook_in_every_way_of_connecting(self):
        here, there = self.house.home / mark(), self.house.sshd.home / mark()
        here.write_text("a file\n")
        book = self.house.home / "book.yml"
        book.write_text(f"""
- hosts: all
  gather_facts: true
  tasks:
    - copy: {{src: {here}, dest: {there}}}
    - shell: cat {there}
      register: read
    - assert: {{that: "read.stdout == 'a file'"}}
    - fetch: {{src: {there}, dest: {here}.back, flat: true}}
    - file: {{path: {there}, state: absent}}
""")
        for pipelining, transfer in (("true", "sftp"), ("false", "sftp"), ("false", "scp"), ("false", "piped")):
            inventory = self.house.home / "inventory"
            inventory.write_text(
                f"web1 ansible_ssh_common_args='-F {self.house.config}' ansible_python_interpreter=/usr/bin/python3"
                f" ansible_ssh_pipelining={pipelining} ansible_ssh_transfer_method={transfer}\n"
            )
            done = self.house.run("ansible-playbook", "-i", inventory, book, seconds=180)
            self.assertEqual(done.returncode, 0, (pipelining, transfer, done.stdout.decode(), done.stderr.decode()))
            self.assertEqual((here.parent / f"{here.name}.back").read_text(), "a file\n")
            self.assertFalse(there.exists())
