"""Who is let in, and whom the gateway takes for the target."""

import subprocess

from harness.sshd import keygen
from house import Case, mark, until


class Login(Case):
    def failures(self):
        return self.house.entries("--kind", "auth.failed")

    def test_no_client_asks_about_the_host(self):
        # By the host's certificate alone, and by the key alone.
        lines = self.house.known_hosts.read_text().splitlines()
        for number, line in enumerate(lines):
            known = self.house.home / f"known-{number}"
            known.write_text(line + "\n")
            done = self.house.ssh("true", options=("-o", f"UserKnownHostsFile={known}"))
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_stranger_is_refused_and_recorded(self):
        stranger = keygen(self.house.home / f"stranger-{mark()}")
        done = self.house.ssh("true", options=("-o", f"IdentityFile={stranger}", "-o", f"IdentityAgent=none",
                                               "-F", "none", "-p", str(self.house.port), "-o", "BatchMode=yes",
                                               "-o", f"UserKnownHostsFile={self.house.known_hosts}"),
                              host="web1@127.0.0.1")  # fmt: skip
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"Permission denied", done.stderr)
        fingerprint = subprocess.run(["ssh-keygen", "-lf", f"{stranger}.pub"], capture_output=True, text=True,
                                     check=True).stdout.split()[1]  # fmt: skip
        until(lambda: any(fingerprint in str(entry) for entry in self.failures()))

    def test_a_target_that_is_not_there_is_told(self):
        done = self.house.ssh("true", options=("-o", "User=web9"))
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"there is no target `web9`", done.stderr)

    def test_another_login_only_where_the_target_allows_it(self):
        done = self.house.ssh("true", options=("-o", "User=somebody@web1"))
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"may not be entered as `somebody`", done.stderr)
        login = self.house.sshd.login
        done = self.house.ssh("id -un", options=("-o", f"User={login}@web1"), check=0)
        self.assertEqual(done.stdout.decode().strip(), login)
        other = self.house.sshd.other
        if other:
            self.house.gateway.run("target", "add", "web2", self.house.sshd.url(), "--allow", f"login:{other}")
            done = self.house.ssh("id -un", options=("-o", f"User={other}@web2"), check=0)
            self.assertEqual(done.stdout.decode().strip(), other)
            text = f"true # {mark()}"
            self.house.ssh(text, options=("-o", f"User={other}@web2"), check=0)
            self.assertEqual(self.house.entry(text)["target"]["role"], other)

    def test_an_unknown_host_key_refuses(self):
        self.house.gateway.run("target", "add", "unpinned", self.house.sshd.url(host_key=False))
        done = self.house.ssh("true", options=("-o", "User=unpinned"))
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"host key is not known", done.stderr)
        test = self.house.gateway.try_run("target", "test", "unpinned")
        self.assertEqual(test.returncode, 1)
        self.assertIn("host_key", test.stdout + test.stderr)

    def test_another_host_key_refuses(self):
        other = keygen(self.house.home / f"other-host-{mark()}")
        url = self.house.sshd.url(host_key=False) + f"&host_key=file:{other}.pub"
        self.house.gateway.run("target", "add", "impostor", url)
        done = self.house.ssh("true", options=("-o", "User=impostor"))
        self.assertEqual(done.returncode, 255)

    def test_a_removed_key_ends_its_session(self):
        key = keygen(self.house.home / f"short-{mark()}")
        self.house.gateway.run("agent", "add", "shortlived", "--ssh-key", f"{key}.pub")
        client = self.house.popen("echo in; sleep 30", options=("-o", f"IdentityFile={key}", "-o", "IdentitiesOnly=yes", "-F", "none",
            "-p", str(self.house.port), "-o", f"UserKnownHostsFile={self.house.known_hosts}", "-o", "BatchMode=yes"),
            host="web1@127.0.0.1")  # fmt: skip
        self.assertEqual(client.stdout.readline(), b"in\n", client.stderr)
        self.house.gateway.run("agent", "disable", "shortlived")
        _, stderr = client.communicate(timeout=20)
        self.assertEqual(client.returncode, 255)
        self.assertIn(b"trailgate", stderr.lower())

    def with_key(self, key, *options):
        given = ("-F", "none", "-p", str(self.house.port), "-o", "BatchMode=yes", "-o", f"IdentityFile={key}", "-o",
                 "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={self.house.known_hosts}", *options)  # fmt: skip
        return self.house.ssh("true", options=given, host="web1@127.0.0.1")

    def test_keys_of_every_kind(self):
        for kind, *options in (("rsa", "-b", "3072"), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "384"), ("ecdsa", "-b", "521")):
            name = f"k{mark()}"
            key = keygen(self.house.home / name, "-t", kind, *options)
            self.house.gateway.run("agent", "add", name, "--ssh-key", f"{key}.pub")
            done = self.with_key(key)
            self.assertEqual(done.returncode, 0, (kind, done.stderr))
            if kind == "rsa":
                for algorithm, code in (("rsa-sha2-256", 0), ("ssh-rsa", 255)):
                    done = self.with_key(key, "-o", f"PubkeyAcceptedAlgorithms={algorithm}")
                    self.assertEqual(done.returncode, code, (algorithm, done.stderr))

    def test_the_right_key_among_others(self):
        strangers = [keygen(self.house.home / f"s{number}-{mark()}") for number in range(5)]
        options = [option for key in strangers for option in ("-o", f"IdentityFile={key}")]
        done = self.with_key(strangers[0], *options, "-o", f"IdentityFile={self.house.key}")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_clients_program_is_in_the_trail(self):
        text = f"true # {mark()}"
        self.house.ssh(text, check=0)
        self.assertIn("OpenSSH", self.house.entry(text)["client"]["application"])

    def test_target_test(self):
        [found] = self.house.gateway.objects("target", "test", "web1")
        self.assertTrue(found["ok"], found)
        self.assertIn("OpenSSH", found["server"])
