"""Accounts with shells of their own, for tests that run as root."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

PROMPT = "[ready]"

# What a person's own files say, and what a test can see of them.
BASH = """
case $- in *i*) ;; *) return ;; esac
HISTCONTROL=ignoreboth
PS1='[ready]\\$ '
PROMPT_COMMAND='prompted=$?'
MINE=bashrc
"""
ZSH = """
PS1='[ready]%# '
MINE=zshrc
HISTFILE=~/.zsh_history
SAVEHIST=100
setopt hist_ignore_space
precmd() { prompted=$? }
"""


class Accounts:
    """Accounts by the name of their shell. Use as a context manager."""

    def __init__(self, *shells):
        self.shells = shells
        self.home = Path(tempfile.mkdtemp(prefix="trailgate-accounts-"))
        self.home.chmod(0o755)
        self.names = {}

    def __enter__(self):
        if os.getuid() != 0:
            raise unittest.SkipTest("only root can make accounts")
        try:
            for shell in self.shells:
                self.add(shell)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names.values():
            subprocess.run(["userdel", "-f", name], capture_output=True, check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    def add(self, shell):
        name = f"tg-{shell}-{os.getpid()}"
        home = self.home / shell
        path = shutil.which(shell)
        assert path, f"{shell} is missing: scripts/setup test"
        subprocess.run(["useradd", "-M", "-d", home, "-s", path, "-p", "*", name], check=True)
        self.names[shell] = name
        home.mkdir(mode=0o700)
        (home / ".bash_profile").write_text(". ~/.bashrc\nPROFILE=bash_profile\n")
        (home / ".bashrc").write_text(BASH)
        (home / ".bash_logout").write_text("echo bye > ~/logged-out\n")
        (home / ".profile").write_text("PS1='[ready]$ '\nMINE=profile\n")
        (home / ".zshenv").write_text("FIRST=zshenv\n")
        (home / ".zshrc").write_text(ZSH)
        (home / ".zprofile").write_text("PROFILE=zprofile\n")
        (home / ".zlogout").write_text("echo bye > ~/logged-out\n")
        for path in [home, *home.iterdir()]:
            shutil.chown(path, name, name)
