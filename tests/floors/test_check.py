"""The floors check notices what it is there for. Run by scripts/check (python3 -m unittest)."""

import unittest

from check import read_floors, violations


def package(name, folder, *imports):
    return {
        "name": name,
        "manifest_path": f"/w/{folder}/{name}/Cargo.toml",
        "dependencies": [{"name": imported, "path": "somewhere"} for imported in imports],
    }


class Violations(unittest.TestCase):
    def found(self, *packages):
        return violations(packages, "/w", read_floors())

    def test_down_and_listed_edges_are_allowed(self):
        ground = package("vocabulary", "crates/ground"), package("trail", "crates/ground", "vocabulary")
        self.assertEqual(self.found(*ground, package("postgres", "crates/protocols", "trail")), [])

    def test_an_edge_up_is_found(self):
        found = self.found(package("trail", "crates/ground", "store"), package("store", "crates/control"))
        self.assertEqual(found, ["trail (crates/ground) must not import store (crates/control)"])

    def test_protocols_see_neither_each_other_nor_control_and_control_sees_no_protocol(self):
        found = self.found(
            package("mysql", "crates/protocols", "postgres", "store"),
            package("postgres", "crates/protocols"),
            package("store", "crates/control", "mysql"),
        )
        self.assertEqual(len(found), 3)

    def test_a_crate_outside_the_house_is_found(self):
        self.assertEqual(self.found(package("helpers", "lib")), ["helpers in lib/helpers stands on no floor"])


if __name__ == "__main__":
    unittest.main()
