"""What clients, targets and administrators write does not get into a leaf, whatever they try: the log is open to everybody."""

import re
import unittest

import psycopg2

from harness.gateway import Gateway, until
from harness.postgres import Postgres
from harness.raw import Raw, Refused

from house import size_of, status, web, write_entries

# In everything that anybody writes here; never in a leaf.
MARK = "smugg"


class Leaves(unittest.TestCase):
    def test_nothing_that_anybody_wrote_is_in_a_leaf(self):
        with Postgres({"fsync": "off"}) as server, Gateway() as gateway:
            server.psql("CREATE ROLE app LOGIN PASSWORD 'sesame'", "CREATE DATABASE smuggled OWNER app")
            gateway.add_target("smuggled-target", f"postgres://app:sesame@127.0.0.1:{server.port}/smuggled?sslmode=disable")
            gateway.add_agent("smuggled-person", kind="person")
            token = gateway.add_agent("smuggler", "--for", "smuggled-person")
            endpoint = gateway.endpoint("smuggler", token)
            connection = psycopg2.connect(endpoint.url("smuggled-target"), application_name="smuggled-app")
            connection.autocommit = True
            cursor = connection.cursor()
            for text in [
                'SELECT 1 AS "smuggled-column"',
                "CREATE TABLE smuggled_table (n int)",
                "SET application_name = 'smuggled-name'",
                "PREPARE smuggled_statement AS SELECT 1",
                "SMUGGLE things PAST the LEAF",
                "smuggled",
                "/* smuggled */",
                "DO $$ BEGIN RAISE EXCEPTION 'smuggled-message' USING ERRCODE = 'SMUGG'; END $$",
                "DO $$ BEGIN RAISE EXCEPTION 'division' USING ERRCODE = '22012'; END $$",
                "SELECT pg_notify('smuggled-channel', 'smuggled-payload')",
            ]:
                try:
                    cursor.execute(text)
                except psycopg2.Error:
                    pass
            cursor.execute("SELECT %s", ("smuggled-parameter",))
            connection.close()
            # Who does not get in, and where to, has an entry as well.
            for user, database in [("smuggled-nobody", "smuggled-target"), ("smuggler", "smuggled-elsewhere")]:
                with self.assertRaises(Refused):
                    Raw(gateway.endpoint(user, token), database, application_name="smuggled-app")
            session = until(lambda: gateway.entries("--kind", "session.end"))[0]["session"]
            write_entries(gateway, 3)
            gateway.run("trail", "hold", session, "--reason", "smuggled-reason")
            gateway.run("trail", "release", session, "--reason", "smuggled-reason")
            until(lambda: status(gateway)["records_unsealed"] == 0)

            # All of it is in the trail …
            commands = gateway.entries("--kind", "command")
            codes = [entry["outcome"]["code"] for entry in commands]
            self.assertIn("SMUGG", codes, "the code is kept, in the payload")
            self.assertIn("22012", codes)
            self.assertGreater(sum(MARK in str(entry).lower() for entry in gateway.entries()), 12)
            # … and none of it in the log.
            leaves = self.leaves(gateway)
            self.assertGreater(len(leaves), 25)
            for leaf in leaves:
                self.assertNotIn(MARK.encode(), leaf.lower())
            self.assertTrue(any(b"22012" in leaf for leaf in leaves), "a code of PostgreSQL's own is in the leaf")
            # Printable text of any length is chance: ids and hashes are random bytes.
            long = [found for leaf in leaves for found in re.findall(rb"[ -~]{24,}", leaf)]
            self.assertEqual(long, [])

    def leaves(self, gateway):
        size = size_of(web(gateway, "/log/checkpoint")[2].decode())
        self.assertLess(size, 256)
        bundle, found = web(gateway, f"/log/tile/entries/000.p/{size}")[2], []
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            found.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
        return found


if __name__ == "__main__":
    unittest.main()
