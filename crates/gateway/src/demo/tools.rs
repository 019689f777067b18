//! The PostgreSQL programs of this machine, and as whom to run them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::Failure;

/// Where Debian and its relatives keep the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Programs that the demo runs.
#[derive(Clone, Debug)]
pub struct Tools {
    pub initdb: PathBuf,
    pub postgres: PathBuf,
    pub psql: PathBuf,
    /// Whom the server runs as: it refuses to run as root.
    user: Option<User>,
}

/// A user of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl Tools {
    /// Finds the newest installed version.
    pub fn find() -> Result<Self, Failure> {
        let missing = |program: &str| {
            Failure::new(
                format!("the demo needs PostgreSQL, and `{program}` is not installed here"),
                "install it: apt-get install postgresql (or your system's package); `trailgate up` works without it",
            )
        };
        let folders = folders();
        let find = |program: &str| {
            let found = folders.iter().map(|folder| folder.join(program)).find(|path| is_program(path));
            found.ok_or_else(|| missing(program))
        };
        let user = if rustix::process::geteuid().is_root() {
            let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            let found = ["postgres", "nobody"].iter().find_map(|name| user(&users, name));
            Some(found.ok_or_else(|| {
                Failure::new(
                    "PostgreSQL does not run as root, and there is no user to run it as",
                    "run the demo as an ordinary user",
                )
            })?)
        } else {
            None
        };
        Ok(Self { initdb: find("initdb")?, postgres: find("postgres")?, psql: find("psql")?, user })
    }

    /// A command that runs as the server's user.
    pub fn as_server(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(User { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        command.env("LC_ALL", "C");
        command
    }

    /// Makes a directory that the server's user owns.
    pub fn directory(&self, path: &Path) -> std::io::Result<()> {
        std::fs::create_dir(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        match self.user {
            Some(User { uid, gid }) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

/// Where programs may be: the newest version first, then `PATH`.
fn folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.into_iter().map(|(_, folder)| folder).chain(std::env::split_paths(&path)).collect()
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A line of `/etc/passwd`: `name:password:uid:gid:…`
fn user(users: &str, name: &str) -> Option<User> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgres2:x:5:6::/:/bin/sh\npostgres:x:104:110:,,,:/var/lib:/bin/bash\n";
        assert_eq!(user(users, "postgres"), Some(User { uid: 104, gid: 110 }));
        assert_eq!(user(users, "nobody"), None);
    }
}
