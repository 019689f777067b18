"""Commands: as always for the client, and in the trail with their result."""

import concurrent.futures
import os
import signal
import time

from house import Case, House, mark, sha256, until


class Exec(Case):
    def test_output_and_exit_status_are_the_targets_own(self):
        for command, code, out, err in [
            ("echo out; echo err >&2; exit 3", 3, b"out\n", b"err\n"),
            ("true", 0, b"", b""),
            ("printf 'a\\0b'", 0, b"a\0b", b""),
        ]:
            command += f" # {mark()}"
            done = self.house.ssh(command)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (code, out, err), command)
            entry = self.house.entry(command)
            self.assertEqual(entry["outcome"]["exit"], code)
            self.assertEqual(entry["outcome"]["status"], "ok" if code == 0 else "error")
            self.assertEqual(entry["outcome"]["bytes_out"], len(out) + len(err))
            self.assertEqual(entry["principal"]["name"], "chatgpt")
            self.assertEqual(entry["principal"]["on_behalf_of"], "alice")
            self.assertEqual(entry["principal"]["proven_by"], "ssh-key")
            self.assertEqual((entry["target"]["name"], entry["target"]["kind"]), ("web1", "ssh"))

    def test_the_exit_status_is_not_lost_when_both_sides_end_at_once(self):
        # Code is recorded on disk before the client hears of its end: time enough for a client without input to close.
        for number in range(30):
            done = self.house.ssh(f"sh -c 'echo $0; exit 9' {number} # {mark()} $x", options=("-n",))
            self.assertEqual((done.returncode, done.stdout), (9, f"{number}\n".encode()), done.stderr)

    def test_the_end_of_output_is_told_to_who_waits_for_it_before_going_on(self):
        client = self.house.popen("exec >&- 2>&-; cat > /dev/null; sleep 1")
        self.assertEqual(client.stdout.read(), b"")
        self.assertIsNone(client.poll())
        client.stdin.write(b"only now")
        client.stdin.close()
        client.wait(20)

    def test_standard_input_reaches_the_program(self):
        data = os.urandom(3_000_000)
        command = f"sha256sum # {mark()}"
        done = self.house.ssh(command, data=data, check=0)
        self.assertEqual(done.stdout.split()[0].decode(), sha256(data))
        self.assertEqual(self.house.entry(command)["outcome"]["bytes_in"], len(data))

    def test_of_what_is_too_long_every_stream_has_its_digest(self):
        with House({"ssh": {"keep_input_kib": 1, "keep_output_kib": 1}}) as house:
            script = b"printf %3000d 1; printf %4000d 2 >&2\n" + b"# more\n" * 500
            command = f"bash -s # {mark()}"
            house.ssh(command, data=script, check=0)
            outcome = house.entry(command)["outcome"]
            self.assertEqual(outcome["not_kept"], {"bytes": len(script) - 1024, "digest": f"sha256:{sha256(script)}"})
            self.assertIn("of standard input", outcome["message"])
            for stream, all_of_it in [("output", b"%3000d" % 1), ("error", b"%4000d" % 2)]:
                kept = f"of standard {stream} {len(all_of_it) - 1024} bytes, SHA-256 of all of it {sha256(all_of_it)}"
                self.assertIn(kept, outcome["message"])

    def test_both_directions_at_once(self):
        # More than every window and queue together: nothing may wait for the other direction.
        data = os.urandom(24_000_000)
        done = self.house.ssh(f"cat # {mark()}", data=data, check=0)
        self.assertEqual(sha256(done.stdout), sha256(data))

    def test_a_program_that_reads_nothing_does_not_hold_up_its_neighbours(self):
        control = self.house.home / "multiplex-idle"
        options = ("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=20")
        self.house.ssh("true", options=options, check=0)
        deaf = self.house.popen("sleep 6", options=options)
        deaf_feeder = concurrent.futures.ThreadPoolExecutor(1)

        def feed():
            try:
                deaf.stdin.write(bytes(60_000_000))
            except OSError:
                pass

        deaf_feeder.submit(feed)
        time.sleep(1)
        began = time.monotonic()
        done = self.house.ssh("cat", options=options, data=b"quick", check=0)
        self.assertEqual(done.stdout, b"quick")
        self.assertLess(time.monotonic() - began, 4)
        deaf.kill()
        deaf.wait()
        self.house.ssh(options=(*options, "-O", "exit"))

    def test_a_signal_ends_a_program_and_the_trail_says_so(self):
        command = f"kill -KILL $$ # {mark()}"
        done = self.house.ssh(command)
        self.assertEqual(done.returncode, 255)
        outcome = self.house.entry(command)["outcome"]
        self.assertEqual((outcome["status"], outcome["exit"]), ("error", None))
        self.assertIn("KILL", outcome["message"])

    def test_a_client_that_leaves_is_recorded(self):
        command = f"echo begun; sleep 30 # {mark()}"
        client = self.house.popen(command)
        self.assertEqual(client.stdout.readline(), b"begun\n")
        client.kill()
        client.wait()
        outcome = self.house.entry(command)["outcome"]
        self.assertEqual(outcome["status"], "cancelled")

    def test_200_at_once(self):
        text = mark()
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            done = list(pool.map(lambda n: self.house.ssh(f"echo {n} {text}"), range(200)))
        for number, one in enumerate(done):
            self.assertEqual((one.returncode, one.stdout), (0, f"{number} {text}\n".encode()), one.stderr)
        commands = until(
            lambda: [e for e in self.house.entries("--kind", "command", "--grep", text) if e["outcome"]["exit"] == 0][:200]
        )
        until(lambda: len(self.house.entries("--kind", "command", "--grep", text, "--limit", "300")) == 200)
        self.assertTrue(commands)

    def test_environment_by_list_only(self):
        options = ("-o", "SetEnv=LC_MARK=yes LD_PRELOAD=no MARK=no")
        done = self.house.ssh("echo $LC_MARK$LD_PRELOAD$MARK", options=options, check=0)
        self.assertEqual(done.stdout, b"yes\n")

    def test_many_channels_on_one_connection(self):
        control = self.house.home / "multiplex"
        options = ("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=20")
        self.house.ssh("true", options=options, check=0)
        text = mark()
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            done = list(pool.map(lambda n: self.house.ssh(f"echo {n} {text}", options=options), range(20)))
        self.assertEqual([one.stdout for one in done], [f"{n} {text}\n".encode() for n in range(20)])
        self.house.ssh(options=(*options, "-O", "exit"))
        commands = until(
            lambda: (found := self.house.entries("--kind", "command", "--grep", text)) and len(found) == 20 and found
        )
        self.assertEqual(len({entry["session"] for entry in commands}), 1)


class Breaks(Case):
    """What happens when one side dies."""

    def test_the_target_dies_while_a_command_runs(self):
        with House() as house:
            command = f"echo begun; sleep 30 # {mark()}"
            client = house.popen(command)
            self.assertEqual(client.stdout.readline(), b"begun\n")
            for line in house.run("ps", "-eo", "pid,ppid,args").stdout.decode().splitlines():
                pid, parent, *args = line.split()
                if "sshd:" in args[0] and int(parent) == house.sshd.process.pid:
                    os.kill(int(pid), signal.SIGKILL)
            _, stderr = client.communicate(timeout=30)
            self.assertEqual(client.returncode, 255)
            self.assertIn(b"trailgate: ", stderr)
            outcome = house.entry(command)["outcome"]
            self.assertEqual(outcome["status"], "unknown")

    def test_the_gateway_dies_while_a_command_runs(self):
        with House() as house:
            command = f"echo begun; sleep 30 # {mark()}"
            client = house.popen(command)
            self.assertEqual(client.stdout.readline(), b"begun\n")
            house.gateway.kill()
            client.communicate(timeout=30)
            self.assertEqual(client.returncode, 255)
            house.gateway.start()
            outcome = house.entry(command)["outcome"]
            self.assertEqual(outcome["status"], "unknown")
            house.read_addresses()
            self.assertEqual(house.ssh("echo again", check=0).stdout, b"again\n")
