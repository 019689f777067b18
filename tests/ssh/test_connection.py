"""One connection, used in every way: many channels, many commands, new keys, both directions, half of them closed."""

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import time

from house import Case, House, mark, sha256, until


class Connection(Case):
    @contextlib.contextmanager
    def master(self, *more):
        control = self.house.home / f"c-{mark()}"
        options = ("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=60", *more)
        self.house.ssh("true", options=options, check=0)
        try:
            yield options
        finally:
            self.house.ssh(options=(*options, "-O", "exit"))

    def test_50_channels_at_once(self):
        # The client itself opens no more than it is asked for at once.
        with self.master() as options:
            text = mark()
            with concurrent.futures.ThreadPoolExecutor(50) as pool:
                run = lambda n: self.house.ssh(f"read x; echo {n} $x {text}", options=options, data=b"in\n")  # noqa: E731
                done = list(pool.map(run, range(50)))
            self.assertEqual([one.stdout for one in done], [f"{n} in {text}\n".encode() for n in range(50)],
                             [one.stderr for one in done if one.stderr])  # fmt: skip
            commands = until(
                lambda: (found := self.house.entries("--kind", "command", "--grep", text, "--limit", "100"))
                and len(found) == 50 and found
            )
            self.assertEqual(len({entry["session"] for entry in commands}), 1)

    def test_more_commands_than_a_connection_may_have_channels(self):
        with self.master() as options:
            for number in range(300):
                done = self.house.ssh(f"echo {number}", options=options)
                self.assertEqual((done.returncode, done.stdout), (0, f"{number}\n".encode()), done.stderr)

    def test_new_keys_in_the_middle(self):
        data = os.urandom(6_000_000)
        options = ("-o", "RekeyLimit=100K")
        command = f"cat # {mark()}"
        done = self.house.ssh(command, data=data, options=options, check=0)
        self.assertEqual(sha256(done.stdout), sha256(data))
        self.assertEqual(self.house.entry(command)["outcome"]["bytes_out"], len(data))

    def test_new_keys_at_the_target(self):
        with House(RekeyLimit="1M") as house:
            data = os.urandom(6_000_000)
            done = house.ssh("cat", data=data, check=0)
            self.assertEqual(sha256(done.stdout), sha256(data))

    def test_half_closed(self):
        data = os.urandom(2_000_000)
        path = self.house.sshd.home / mark()
        self.house.ssh(f"cat > {path}", data=data, check=0)
        self.assertEqual(path.read_bytes(), data)
        self.assertEqual(self.house.ssh(f"cat < {path}", check=0).stdout, data)
        # The program ends its input first, then goes on saying things; and the other way round.
        self.assertEqual(self.house.ssh("exec 0<&-; sleep 0.5; echo late", data=data[:10], check=0).stdout, b"late\n")
        self.assertEqual(self.house.ssh("cat >/dev/null; sleep 0.5; echo late", data=data, check=0).stdout, b"late\n")
        done = self.house.ssh("exec 1>&-; sleep 0.3; cat >&2; exit 9", data=b"to err")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (9, b"", b"to err"))

    def test_without_input(self):
        self.assertEqual(self.house.ssh("cat; echo end", options=("-n",), check=0).stdout, b"end\n")

    def test_output_that_nobody_reads_waits(self):
        # More than every queue holds; the program must not finish, and the gateway must not take it into memory.
        client = self.house.popen("head -c 80000000 /dev/zero; echo done >&2")
        time.sleep(2)
        before = self.memory()
        time.sleep(2)
        self.assertLess(self.memory() - before, 20 << 20)
        self.assertIsNone(client.poll())
        out, err = client.communicate(timeout=120)
        self.assertEqual((len(out), err, client.returncode), (80_000_000, b"done\n", 0))

    def memory(self):
        with open(f"/proc/{self.house.gateway.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) << 10

    def test_input_that_nobody_reads_waits(self):
        client = subprocess.Popen(
            ["ssh", "-F", str(self.house.config), "web1", "sleep 5; wc -c"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=self.house.environment(),
        )  # fmt: skip
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            out = pool.submit(client.communicate, bytes(60_000_000), 120)
            before = self.memory()
            time.sleep(3)
            self.assertLess(self.memory() - before, 30 << 20)
            self.assertEqual(out.result()[0].strip(), b"60000000")

    def test_without_a_program(self):
        client = self.house.popen("-N")
        time.sleep(1)
        self.assertIsNone(client.poll())
        client.terminate()
        client.wait(10)

    def test_signals_of_the_client(self):
        # Through paramiko's channel there is no way to send one; asyncssh has one: see test_clients. Here the terminal's.
        command = f"trap 'echo hup > {self.house.sshd.home}/hup; exit' HUP; echo begun; sleep 30 # {mark()}"
        client = subprocess.Popen(["ssh", "-F", str(self.house.config), "-tt", "web1", command], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, env=self.house.environment())  # fmt: skip
        self.assertIn(b"begun", client.stdout.readline())
        client.kill()
        client.wait()
        until((self.house.sshd.home / "hup").exists)

    def test_a_client_that_asks_whether_the_gateway_is_there(self):
        options = ("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2", "-C")
        self.assertEqual(self.house.ssh("sleep 5; echo on", options=options, check=0).stdout, b"on\n")

    def test_every_algorithm_that_is_offered(self):
        for name, values in {
            "KexAlgorithms": ("curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256"),
            "Ciphers": ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr",
                        "aes192-ctr", "aes256-ctr"),
            "MACs": ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"),
        }.items():  # fmt: skip
            for value in values:
                options = ("-o", f"{name}={value}", *(("-o", "Ciphers=aes128-ctr") if name == "MACs" else ()))
                data = os.urandom(100_000)
                self.assertEqual(self.house.ssh("cat", data=data, options=options, check=0).stdout, data, value)
        for name, value in (("KexAlgorithms", "diffie-hellman-group14-sha1"), ("Ciphers", "aes128-cbc"), ("MACs", "hmac-sha1")):
            options = ("-o", f"{name}={value}", *(("-o", "Ciphers=aes128-ctr") if name == "MACs" else ()))
            self.assertEqual(self.house.ssh("true", options=options).returncode, 255, value)

    def test_a_client_that_is_stopped_and_goes_on(self):
        client = self.house.popen("for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done")
        client.stdout.readline()
        client.send_signal(signal.SIGSTOP)
        time.sleep(1)
        client.send_signal(signal.SIGCONT)
        out, _ = client.communicate(timeout=30)
        self.assertEqual(out, b"2\n3\n4\n5\n6\n")

    def test_input_sent_just_before_the_client_leaves_arrives(self):
        path = self.house.sshd.home / mark()
        client = self.house.popen(f"cat > {path}")
        client.stdin.write(b"last words")
        client.stdin.flush()
        until(path.exists)
        time.sleep(0.3)
        client.kill()
        client.wait()
        until(lambda: path.read_bytes() == b"last words")
