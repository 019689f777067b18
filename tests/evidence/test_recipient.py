"""A gateway that seals for somebody else: what it wrote can be read by who has the identity, with Trailgate or with age alone."""

import hashlib
import subprocess
import unittest

from harness.gateway import CommandFailed, Gateway, until

from house import status, vkey, write_entries

SLOT = 512


class Recipient(unittest.TestCase):
    def test_only_the_identity_opens_what_was_sealed_for_it(self):
        with Gateway() as gateway:
            # What is written before the settings name a recipient is sealed under the node key.
            write_entries(gateway, 1)
            gateway.stop()
            identity = gateway.home / "auditors.key"
            subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True)
            done = subprocess.run(["age-keygen", "-y", identity], check=True, capture_output=True, text=True)
            recipient = done.stdout.strip()
            gateway.settings["vault"] = {"recipient": recipient}
            # Each run is a session with a key of its own: of as many, stock age would make some that fit no slot.
            for _ in range(15):
                gateway.start()
                write_entries(gateway, 2)
                self.assertIsNone(status(gateway)["sealer_problem"])
                gateway.kill()
            gateway.start()
            until(lambda: status(gateway)["records_unsealed"] == 0)
            # The gateway itself can't read what it sealed, and says for whom it did.
            newest = gateway.entries("--kind", "control.changed")[-1]
            self.assertIsNone(newest.get("event"))
            self.assertIn(recipient, str(newest))
            found = gateway.verify()
            self.assertGreater(found["payloads"]["sealed"], 40)
            self.assertGreater(found["payloads"]["verified"], 2, "what was sealed before")
            # With the identity all of it is verified; the gateway has the reading as an entry.
            found = gateway.objects("trail", "verify", "--identity", identity)[0]
            self.assertEqual(found["payloads"]["sealed"], 0)
            read = gateway.objects("trail", "list", "--identity", identity, "--kind", "control.changed")
            self.assertTrue(all(entry.get("event") for entry in read))
            gateway.stop()
            other = gateway.home / "other.key"
            subprocess.run(["age-keygen", "-o", other], check=True, capture_output=True)
            found = gateway.objects("trail", "verify", "--identity", other)[0]
            self.assertGreater(found["payloads"]["sealed"], 40)
            self.opens_with_age_alone(gateway, identity, other, recipient)
            # A key that was replaced is found by who has no identity, too.
            keys = gateway.data / "vault/keys"
            whole = keys.read_bytes()
            at = len(whole) - SLOT
            forged = bytearray(whole[at:])
            forged[136:400] = bytes(range(256)) + bytes(8)
            forged[508:] = crc32c(forged[:508]).to_bytes(4, "little")
            keys.write_bytes(whole[:at] + forged)
            for more in [[], ["--identity", identity]]:
                with self.assertRaises(CommandFailed):
                    gateway.run("trail", "verify", *more)
            keys.write_bytes(whole)
            self.assertTrue(gateway.verify()["sound"])

    def opens_with_age_alone(self, gateway, identity, other, recipient):
        """docs/ledger-format.md, "Key slots": every wrapped key is an age file of the key and the hash of its context."""
        slots = (gateway.data / "vault/keys").read_bytes()
        origin = vkey(gateway.data).split("+")[0].encode()
        opened = 0
        for at in range(0, len(slots), SLOT):
            slot = slots[at : at + SLOT]
            name = slot[72 : 72 + slot[34]].decode()
            if name != recipient:
                continue
            wrapped = slot[136 : 136 + int.from_bytes(slot[36:38], "little")]
            done = subprocess.run(["age", "-d", "-i", identity], input=wrapped, capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            context = b"trailgate/key-slot/v2\0" + len(origin).to_bytes(2, "little") + origin + slot[:16] + slot[40 : 40 + slot[33]]
            self.assertEqual(len(done.stdout), 64)
            self.assertEqual(done.stdout[32:], hashlib.sha256(context).digest())
            self.assertNotEqual(subprocess.run(["age", "-d", "-i", other], input=wrapped, capture_output=True).returncode, 0)
            opened += 1
        self.assertGreater(opened, 14)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


if __name__ == "__main__":
    unittest.main()
