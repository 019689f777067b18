//! Where the files of a copy by scp are at the target: what its command line says, and the names in its lines.

use bytes::Bytes;
use classify::shell::{ScpHalf, ScpPath};
use vocabulary::{Class, Facts, ObjectUse, Usage};

use crate::command::Asking;
use crate::wire::scp::FileName;

/// The paths of one copy.
pub(super) struct Places(ScpHalf);

/// Where one file is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Its entry's words, behind the verb.
    words: Vec<u8>,
    /// All paths that it may have.
    paths: Vec<Vec<u8>>,
}

impl Place {
    fn sure(path: Vec<u8>) -> Self {
        Self { words: path.clone(), paths: vec![path] }
    }
}

impl Places {
    pub(super) const fn new(half: ScpHalf) -> Self {
        Self(half)
    }

    /// A file on its way, as it is judged: a `put` or a `get` of a path, like SFTP's.
    pub(super) fn asking(&self, name: &FileName) -> Asking {
        let (verb, usage, place) = if self.0.takes {
            ("PUT", Usage::Write, self.put(name))
        } else {
            ("GET", Usage::Read, self.got(name))
        };
        let object = |path: &Vec<u8>| ObjectUse { name: String::from_utf8_lossy(path).into_owned(), usage };
        let objects = place.paths.iter().map(object).collect();
        let text = [verb.to_ascii_lowercase().as_bytes(), b" ", place.words.as_slice()].concat();
        Asking::new(Facts { objects, class: Class::Transfer, ..Facts::plain(verb, Class::Transfer) }, text)
    }

    /// Where a file is put. A path that may be a folder or the file itself, which only the target knows, is both.
    fn put(&self, name: &FileName) -> Place {
        let Some(to) = self.0.paths.first() else { return Place::sure(joined("", parts(name))) };
        let inside = joined(&to.text, parts(name));
        if self.0.into_folder || is_folder(&to.text) {
            return Place::sure(inside);
        }
        let words = [joined("", parts(name)).as_slice(), b" at ", to.text.as_bytes()].concat();
        Place { words, paths: vec![joined(&to.text, parts(name).skip(1)), inside] }
    }

    /// Where a file comes from: below the path that ends as the first name does, or that the shell makes names of.
    fn got(&self, name: &FileName) -> Place {
        let first = parts(name).next().unwrap_or_default();
        let all = &self.0.paths;
        let named = |path: &&ScpPath| !is_pattern(path) && last(&path.text).as_bytes() == first;
        let mut from: Vec<&ScpPath> = all.iter().filter(named).collect();
        if from.is_empty() {
            from = all.iter().filter(|path| is_pattern(path)).collect();
        }
        if from.is_empty() {
            from = all.iter().collect();
        }
        let path = |path: &&ScpPath| {
            if is_pattern(path) {
                let text = path.text.trim_end_matches('/');
                let parent = text.strip_suffix(last(text)).unwrap_or_default();
                joined(parent, parts(name))
            } else {
                joined(&path.text, parts(name).skip(1))
            }
        };
        let mut paths: Vec<Vec<u8>> = from.iter().map(path).collect();
        paths.sort_unstable();
        paths.dedup();
        match paths.as_slice() {
            [path] => Place::sure(path.clone()),
            several => {
                let (name, several) = (joined("", parts(name)), several.join(&b' '));
                let words = [name.as_slice(), b" from ", several.as_slice()].concat();
                Place { words, paths }
            }
        }
    }
}

/// The names on the way to a file, its own the last.
fn parts(name: &FileName) -> impl Iterator<Item = &[u8]> {
    name.folders.iter().chain([&name.name]).map(Bytes::as_ref)
}

fn joined<'a>(base: &str, parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut path = base.as_bytes().to_vec();
    for part in parts {
        if !path.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    path
}

fn last(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a path can only be a folder.
fn is_folder(path: &str) -> bool {
    path.ends_with('/') || matches!(last(path), "." | ".." | "~")
}

/// Whether the shell makes other names of a path's last part.
fn is_pattern(path: &ScpPath) -> bool {
    !path.literal && last(&path.text).contains(['*', '?', '[', '{', '$', '`'])
}

#[cfg(test)]
mod tests {
    use classify::shell::scp_half;

    use super::*;

    fn place(line: &str, path: &str) -> String {
        let places = Places::new(scp_half(line.as_bytes()).unwrap());
        let mut folders: Vec<Bytes> =
            path.split('/').map(|part| Bytes::copy_from_slice(part.as_bytes())).collect();
        let name = FileName { name: folders.pop().unwrap(), folders };
        let Place { words, paths } = if places.0.takes { places.put(&name) } else { places.got(&name) };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let paths: Vec<String> = paths.iter().map(|path| text(path)).collect();
        format!("{} = {}", text(&words), paths.join(" "))
    }

    #[test]
    fn what_is_put_is_where_the_target_may_put_it() {
        for (line, path, expected) in [
            ("scp -t /srv/x", "a", "a at /srv/x = /srv/x /srv/x/a"),
            ("scp -d -t /srv/x", "a", "/srv/x/a = /srv/x/a"),
            ("scp -t /srv/", "a", "/srv/a = /srv/a"),
            ("scp -t .", "a b", "./a b = ./a b"),
            ("scp -t ~", "a", "~/a = ~/a"),
            ("scp -t /", "a", "/a = /a"),
            ("scp -r -t /srv/x", "tree/sub/a", "tree/sub/a at /srv/x = /srv/x/sub/a /srv/x/tree/sub/a"),
            ("scp -rdt /srv/x", "tree/a", "/srv/x/tree/a = /srv/x/tree/a"),
        ] {
            assert_eq!(place(line, path), expected, "{line}");
        }
    }

    #[test]
    fn what_is_got_is_what_the_line_names() {
        for (line, path, expected) in [
            ("scp -f /srv/x", "x", "/srv/x = /srv/x"),
            ("scp -f ~/x", "x", "~/x = ~/x"),
            ("scp -f /srv/x /etc/y", "y", "/etc/y = /etc/y"),
            ("scp -f /srv/x /etc/x", "x", "x from /etc/x /srv/x = /etc/x /srv/x"),
            ("scp -f /var/log/*.log", "a.log", "/var/log/a.log = /var/log/a.log"),
            ("scp -f '/var/log/*'", "*", "/var/log/* = /var/log/*"),
            ("scp -f a*", "ab", "ab = ab"),
            ("scp -r -f /srv/tree/", "tree/sub/a", "/srv/tree/sub/a = /srv/tree/sub/a"),
            ("scp -r -f .", "./a", "./a = ./a"),
            ("scp -r -f /srv/t*", "tree/a", "/srv/tree/a = /srv/tree/a"),
            // Another name than was asked for: the target was told to read this one.
            ("scp -f /srv/x", "y", "/srv/x = /srv/x"),
        ] {
            assert_eq!(place(line, path), expected, "{line}");
        }
    }
}
