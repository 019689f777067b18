#!/usr/bin/env python3
"""Imports only go down: fails on a dependency between workspace crates that floors.toml does not allow, of any kind
(normal, build or dev)."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent


def violations(packages, root, floors):
    """Sentences about the edges that are not allowed. `packages` are those of `cargo metadata`, `root` the workspace's
    directory."""
    folder_of = {}
    found = []
    for package in packages:
        place = Path(package["manifest_path"]).parent.relative_to(root)
        folder = next((name for name in floors if place.is_relative_to(name)), None)
        if folder is None:
            found.append(f"{package['name']} in {place} stands on no floor")
        folder_of[package["name"]] = folder
    for package in packages:
        importer = package["name"]
        floor = floors.get(folder_of[importer])
        if floor is None:
            continue
        for dependency in package["dependencies"]:
            imported = dependency["name"]
            folder = folder_of.get(imported)
            if folder is None or imported == importer or dependency.get("path") is None:
                continue
            same = folder == folder_of[importer]
            allowed = f"{importer} -> {imported}" in floor["within"] if same else folder in floor["imports"]
            if not allowed:
                found.append(f"{importer} ({folder_of[importer]}) must not import {imported} ({folder})")
    return sorted(set(found))


def read_floors():
    with open(HERE / "floors.toml", "rb") as file:
        floors = {floor["folder"]: floor for floor in tomllib.load(file)["floor"]}
    lower = []
    for folder, floor in floors.items():
        above = sorted(set(floor["imports"]) - set(lower))
        if above:
            sys.exit(f"floors.toml: {folder} may not be allowed {above}, which do not stand before it")
        lower.append(folder)
    return floors


def main():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=HERE).stdout)
    found = violations(metadata["packages"], metadata["workspace_root"], read_floors())
    for sentence in found:
        print(f"floors: {sentence}", file=sys.stderr)
    if found:
        print("floors: imports only go down (ARCHITECTURE.md, tests/floors/floors.toml)", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
