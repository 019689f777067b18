"""Witnesses: they cosign what grows, refuse what was set back or forked, and hold up nobody."""

import shutil
import subprocess
import unittest

from harness.gateway import CommandFailed, until

from house import Logs, Verifier, Witness, post, some_vkey, size_of, status, vkey, web, witnessed, write_entries


class Witnesses(unittest.TestCase):
    def setUp(self):
        self.logs = Logs()
        self.addCleanup(self.logs.remove)
        # The keys are made at the first start, and witnesses have to know them.
        with self.logs.gateway() as gateway:
            write_entries(gateway, 3)
            gateway.stop()
        data = self.logs.data
        self.vkeys = [vkey(data), vkey(data, "trail-log")]
        self.policy = self.logs.home / "policy"

    @classmethod
    def tearDownClass(cls):
        Verifier.remove()

    def write_policy(self, *lines, logs=False):
        known = "".join(f"log {vkey}\n" for vkey in self.vkeys) if logs else ""
        self.policy.write_text(known + "".join(lines))

    def watched(self):
        return self.logs.gateway(witness={"policy": str(self.policy)})

    def verify(self, gateway, *more):
        return gateway.objects("trail", "verify", "--witness-policy", self.policy, *more)[0]

    def test_two_of_three_cosign_and_everybody_can_tell(self):
        with Witness("w1", *self.vkeys) as one, Witness("w2", *self.vkeys) as two, Witness("w3", some_vkey()) as three:
            self.write_policy(one.line(), two.line(), three.line(), "group k 2 w1 w2 w3\nquorum k\n")
            with self.watched() as gateway:
                write_entries(gateway, 20)
                until(lambda: witnessed(gateway) >= 20)
                note = web(gateway, "/log/checkpoint")[2].decode()
                self.assertIn("\n— w1.example ", note)
                self.assertIn("\n— w2.example ", note)
                self.assertNotIn("w3.example", note, "it does not know this log")
                self.assertGreaterEqual(size_of(web(gateway, "/log/checkpoint.newest")[2].decode()), size_of(note))
                views = {view["name"]: view for view in status(gateway)["witnessing"]["witnesses"]}
                self.assertIn("404", views["w3"]["problem"])
                self.assertIsNone(views["w1"]["problem"])
                doctor = gateway.try_run("doctor").stdout
                self.assertRegex(doctor, r"look at +witness w3")
                # Too few answer: commands go on and are sealed, and the lag is shown.
                one.stop()
                before = witnessed(gateway)
                write_entries(gateway, 10)
                until(lambda: status(gateway)["records_unsealed"] == 0)
                state = until(lambda: (state := status(gateway)["witnessing"]) and state["newest"] > state["witnessed"] and state)
                self.assertLessEqual(state["witnessed"], before + 1)
                one.start()
                until(lambda: witnessed(gateway) >= before + 10, seconds=40)
                entry = gateway.entries("--kind", "control.changed")[5]["id"]
                proof = self.logs.home / "proof"
                gateway.run("trail", "prove", entry, "-o", proof)
                gateway.run("trail", "verify", proof, "--witness-policy", self.policy)
                for witness in [one, two]:
                    said = Verifier.run("cosigned", self.vkeys[0], proof, witness.vkey)
                    self.assertEqual(said, f"{witness.name}.example has cosigned\n")
                with self.assertRaisesRegex(AssertionError, "there is none"):
                    Verifier.run("cosigned", self.vkeys[0], proof, three.vkey)
                gateway.stop()
                found = self.verify(gateway)
                self.assertTrue(found["sound"])
                self.assertGreaterEqual(found["witnessed"], 30)
            # A policy that the witnesses of this log do not meet.
            self.write_policy(three.line(), "quorum w3\n", logs=True)
            home = gateway.home
            home.mkdir()
            try:
                with self.assertRaisesRegex(CommandFailed, "does not verify"):
                    self.verify(gateway)
                with self.assertRaisesRegex(CommandFailed, "cosigned as the policy asks"):
                    gateway.run("trail", "verify", proof, "--witness-policy", self.policy)
            finally:
                home.rmdir()

    def test_a_log_that_was_set_back_does_not_start(self):
        with Witness("w1", *self.vkeys) as witness:
            self.write_policy(witness.line(), "quorum w1\n")
            copy = self.logs.home / "copy"
            shutil.copytree(self.logs.data, copy)
            with self.watched() as gateway:
                write_entries(gateway, 5)
                until(lambda: witnessed(gateway) >= 8)
                gateway.stop()
            shutil.rmtree(self.logs.data)
            copy.rename(self.logs.data)
            # Without the witness nobody could tell; with it, neither this copy nor what goes on from it is accepted.
            shutil.rmtree(self.logs.data / "trail-log")
            with self.assertRaisesRegex(Exception, "more than there are: the log was set back"):
                self.watched().__enter__()
            with self.logs.gateway() as unwatched:
                write_entries(unwatched, 30)
                unwatched.stop()
            with self.assertRaisesRegex(Exception, "another history"):
                self.watched().__enter__()

    def test_the_trail_log_alone_shows_a_log_that_was_set_back(self):
        kept = self.logs.home / "trail-log"
        copy = self.logs.home / "copy"
        shutil.copytree(self.logs.data, copy)
        with self.logs.gateway() as gateway:
            write_entries(gateway, 5)
            gateway.stop()
            shutil.copytree(self.logs.data / "trail-log", kept)
        shutil.rmtree(self.logs.data)
        copy.rename(self.logs.data)
        shutil.rmtree(self.logs.data / "trail-log")
        kept.rename(self.logs.data / "trail-log")
        with self.assertRaisesRegex(Exception, "it was set back"):
            self.logs.gateway().__enter__()

    def test_the_protocol_is_the_specifications(self):
        checkpoint = (self.logs.data / "ledger/checkpoint").read_text()
        size = size_of(checkpoint)
        with Witness("w1", self.vkeys[0]) as witness:
            def add(body):
                return post(witness.port, body.encode())

            self.assertEqual(add("nonsense")[0], 400)
            self.assertEqual(add(f"old {size + 1}\n\n{checkpoint}")[0], 400)
            self.assertEqual(add(f"old 0\n\n{(self.logs.data / 'trail-log/checkpoint').read_text()}")[0], 404)
            self.assertEqual(add(f"old 0\n\n{checkpoint.replace(chr(10) + str(size), chr(10) + str(size + 1), 1)}")[0], 403)
            self.assertEqual(add(f"old 1\n\n{checkpoint}")[:2], (409, "text/x.tlog.size"))
            self.assertEqual(add(f"old 1\n\n{checkpoint}")[2], "0\n")
            code, _, line = add(f"old 0\n\n{checkpoint}")
            self.assertEqual(code, 200)
            self.assertTrue(line.startswith("— w1.example ") and line.endswith("\n"))
            # It remembers over a kill.
            witness.kill()
            witness.start()
            self.assertEqual(add(f"old 0\n\n{checkpoint}"), (409, "text/x.tlog.size", f"{size}\n"))
            self.assertEqual(add(f"old {size}\n\n{checkpoint}")[0], 200)
            self.assertEqual(post(witness.port, b"x" * 100_000)[0], 413)
            second = subprocess.run(witness.arguments, capture_output=True, text=True, timeout=30)
            self.assertIn("another witness uses", second.stderr)

    def test_witnesses_elsewhere_are_asked_in_tls(self):
        # A gateway's own authority serves as one for the witness as well.
        with self.logs.gateway(web={"tls": "required"}) as gateway:
            gateway.stop()
        ca, ca_key = self.logs.data / "tls/ca.pem", self.logs.data / "tls/ca.key"
        certificate = self.logs.home / "w.pem"
        key = self.logs.home / "w.key"
        extensions = self.logs.home / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1\n")
        request = self.logs.home / "w.csr"
        for command in [
            ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=w1"],
            ["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-out", certificate, "-days", "2",
             "-extfile", extensions, "-set_serial", "7"],
        ]:  # fmt: skip
            subprocess.run(command, check=True, capture_output=True)
        with Witness("w1", *self.vkeys, options=["--cert", certificate, "--key", key]) as witness:
            self.write_policy(witness.line("https"), "quorum w1\n")
            with self.watched() as untrusting:
                write_entries(untrusting, 2)
                witnessing = until(lambda: status(untrusting).get("witnessing"))
                problem = until(lambda: status(untrusting)["witnessing"]["witnesses"][0]["problem"])
                self.assertEqual(witnessing["witnessed"], 0)
                self.assertIn("certificate", problem)
            settings = {"policy": str(self.policy), "ca": str(ca)}
            with self.logs.gateway(witness=settings) as gateway:
                write_entries(gateway, 2)
                until(lambda: witnessed(gateway) > 3)


if __name__ == "__main__":
    unittest.main()
