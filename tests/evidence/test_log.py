"""The log over HTTP, as any client of c2sp.org/tlog-tiles sees it."""

import base64
import gzip
import hashlib
import unittest

from cryptography.hazmat.primitives import serialization

from harness.gateway import Gateway, until

from house import Verifier, crates_monitor, size_of, vkey, web, write_entries


def newest(gateway):
    return web(gateway, "/log/checkpoint")[2].decode()


class Log(unittest.TestCase):
    @classmethod
    def tearDownClass(cls):
        Verifier.remove()

    def test_a_monitor_that_knows_nothing_of_trailgate_reads_all_of_it(self):
        with Gateway() as gateway:
            write_entries(gateway, 300)
            until(lambda: size_of(newest(gateway)) >= 300)
            log = f"http://127.0.0.1:{gateway.web_port}/log"
            said = Verifier.run("monitor", vkey(gateway.data), log)
            self.assertRegex(said, r"^all 3\d\d entries are in the signed tree\n$")
            # It must be able to say no.
            other = vkey(gateway.data, "trail-log")
            with self.assertRaisesRegex(AssertionError, "does not hold"):
                Verifier.run("monitor", other, log)
            self.assertEqual(crates_monitor(gateway, vkey(gateway.data)), said)
            with self.assertRaisesRegex(AssertionError, "signature"):
                crates_monitor(gateway, other)
            self.monitored_on(gateway, log)
            self.assertTrue((gateway.data / "ledger/tile/entries/000.zst").exists(), "full bundles are compressed")
            self.assertFalse((gateway.data / "ledger/tile/entries/000").exists())

    def monitored_on(self, gateway, log):
        """Who kept a checkpoint sees whether the log goes on from it."""
        kept = gateway.home / "kept"
        checkpoint = newest(gateway)
        kept.write_text(checkpoint)
        write_entries(gateway, 10)
        until(lambda: size_of(newest(gateway)) >= size_of(checkpoint) + 10)
        said = Verifier.run("grown", vkey(gateway.data), log, kept)
        self.assertRegex(said, rf"^the first {size_of(checkpoint)} of 3\d\d entries are those of the checkpoint")
        crates_monitor(gateway, vkey(gateway.data), kept=kept)
        # The log's own key signs another history: of another directory, or a longer one that was taken back.
        for told in [self.forged(gateway, size_of(checkpoint)), self.forged(gateway, 10_000)]:
            kept.write_text(told)
            with self.assertRaisesRegex(AssertionError, "does not hold|go on|set back|Error"):
                Verifier.run("grown", vkey(gateway.data), log, kept)
            with self.assertRaises(AssertionError):
                crates_monitor(gateway, vkey(gateway.data), kept=kept)

    def forged(self, gateway, size):
        """A checkpoint over other entries, signed with the log's own key."""
        key = serialization.load_pem_private_key((gateway.data / "log.key").read_bytes(), None)
        name, key_id, _ = vkey(gateway.data).split("+", 2)
        text = f"{name}\n{size}\n{base64.b64encode(bytes(32)).decode()}\n"
        signature = base64.b64encode(bytes.fromhex(key_id) + key.sign(text.encode())).decode()
        return f"{text}\n\u2014 {name} {signature}\n"

    def test_answers_are_as_the_specification_says(self):
        with Gateway() as gateway:
            write_entries(gateway, 260)
            checkpoint = until(lambda: (text := newest(gateway)) and size_of(text) >= 260 and text)
            code, headers, _ = web(gateway, "/log/checkpoint")
            self.assertEqual((code, headers["content-type"]), (200, "text/plain; charset=utf-8"))
            self.assertEqual(headers["cache-control"], "no-cache")
            width = size_of(checkpoint) % 256
            for path in ["tile/0/000", "tile/entries/000", f"tile/0/001.p/{width}", f"tile/entries/001.p/{width}", "tile/1/000.p/1"]:
                code, headers, body = web(gateway, f"/log/{path}")
                self.assertEqual((code, headers["content-type"]), (200, "application/octet-stream"), path)
                self.assertIn("immutable", headers["cache-control"])
                self.assertNotIn("content-encoding", headers)
                if path == "tile/0/000":
                    self.assertEqual(len(body), 8192)
                    tile = body
            code, headers, body = web(gateway, "/log/tile/entries/000", {"accept-encoding": "br, gzip"})
            self.assertEqual(headers["content-encoding"], "gzip")
            bundle, hashes = gzip.decompress(body), []
            self.assertEqual(bundle, web(gateway, "/log/tile/entries/000")[2])
            while bundle:
                length = int.from_bytes(bundle[:2], "big")
                hashes.append(hashlib.sha256(b"\0" + bundle[2 : 2 + length]).digest())
                bundle = bundle[2 + length :]
            self.assertEqual(b"".join(hashes), tile)
            for path in [
                "", "tile/0/x000/000", "tile/00/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/999", "tile/2/000.p/1",
                "tile/9/000", "tile/data/000", "tile/0/001", "checkpoints", "lock", "../node.key", "%2e%2e/node.key",
                "tile/entries/000.zst", "witnesses.json",
            ]:  # fmt: skip
                self.assertEqual(web(gateway, f"/log/{path}")[0], 404, path)

    def test_who_may_read_it_can_be_narrowed(self):
        with Gateway({"web": {"public_log": False}}) as gateway:
            self.assertEqual(web(gateway, "/log/checkpoint")[0], 401)
            token = gateway.run("person", "add", "ada", "--role", "auditor").strip()
            self.assertEqual(web(gateway, "/log/checkpoint", {"authorization": f"Bearer {token}"})[0], 200)

    def test_an_idle_gateway_shows_that_it_runs(self):
        with Gateway({"sealer": {"heartbeat_s": 1}}) as gateway:
            # Looking is an entry, after which it is not idle for a while.
            until(lambda: len(gateway.entries("--kind", "heartbeat")) >= 2, pause=3)
            self.assertFalse([entry for entry in gateway.entries() if entry["kind"] == "heartbeat"], "only if asked for")
            self.assertTrue(gateway.verify()["sound"])


if __name__ == "__main__":
    unittest.main()
