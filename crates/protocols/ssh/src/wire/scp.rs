//! The legacy protocol of `scp -t` and `scp -f` (rcp's): lines and file contents from the side that has the files,
//! single bytes and error lines from the other.
//!
//! Only the sending side is read here: each file's name and size, and its content.

/// Longest line, in bytes.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// Deepest nesting of folders.
const MAX_DEPTH: usize = 256;

/// The bytes are not scp's protocol: nothing can be told of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the protocol of scp")]
pub(crate) struct NotScp;

/// Which way files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the target: `scp -t`.
    Upload,
    /// From the target: `scp -f`.
    Download,
}

/// Whether a command line starts scp's other half, as `scp` itself writes it: `scp [-rpdvq]… -t|-f … PATH`.
pub(crate) fn way(line: &[u8]) -> Option<Way> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let program = words.next()?;
    if program != "scp" && !program.ends_with("/scp") {
        return None;
    }
    for word in words {
        match word {
            "-t" => return Some(Way::Upload),
            "-f" => return Some(Way::Download),
            word if word.starts_with('-') && word != "--" => {}
            _ => return None,
        }
    }
    None
}

/// What the sending side has begun or finished with a piece of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file begins: its path below where the copy goes, and its size. The piece's bytes up to `end` belong to what
    /// was before it and to its line.
    File { path: String, size: u64, end: usize },
    /// The content of the file is complete at `end`.
    Done { end: usize },
    /// `from..to` is content of the file.
    Content { from: usize, to: usize },
    /// The sending side tells of an error.
    Warning { message: String },
}

#[derive(Debug)]
enum State {
    Line,
    Content(u64),
    /// The byte that the sender puts behind a file's content.
    Trailer,
}

/// Reads the sending side's bytes.
#[derive(Debug)]
pub(crate) struct Sender {
    state: State,
    line: Vec<u8>,
    folders: Vec<String>,
}

impl Default for Sender {
    fn default() -> Self {
        Self { state: State::Line, line: Vec::new(), folders: Vec::new() }
    }
}

impl Sender {
    /// Reads the next bytes from `at`; `None` when they are all read. Call again with what it returns.
    pub(crate) fn read(&mut self, data: &[u8], at: &mut usize) -> Result<Option<Found>, NotScp> {
        while let Some(rest) = data.get(*at..).filter(|rest| !rest.is_empty()) {
            match &mut self.state {
                State::Content(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    let (from, to) = (*at, *at + take);
                    *left -= take as u64;
                    *at = to;
                    if *left == 0 {
                        self.state = State::Trailer;
                    }
                    if take > 0 {
                        return Ok(Some(Found::Content { from, to }));
                    }
                }
                State::Trailer => {
                    *at += 1;
                    self.state = State::Line;
                    if rest.first() != Some(&0) {
                        // The sender could not read all of its file, and says so in a line.
                        self.line.clear();
                    }
                    return Ok(Some(Found::Done { end: *at }));
                }
                State::Line => {
                    let end = rest.iter().position(|byte| *byte == b'\n');
                    let part = rest.get(..end.map_or(rest.len(), |end| end + 1)).unwrap_or_default();
                    // Answers of a sender that also receives: nothing.
                    if self.line.is_empty() && part.first() == Some(&0) {
                        *at += 1;
                        continue;
                    }
                    self.line.extend_from_slice(part);
                    *at += part.len();
                    if self.line.len() > MAX_LINE_BYTES {
                        return Err(NotScp);
                    }
                    if end.is_some()
                        && let Some(found) = self.line_read(*at)?
                    {
                        return Ok(Some(found));
                    }
                }
            }
        }
        Ok(None)
    }

    fn line_read(&mut self, end: usize) -> Result<Option<Found>, NotScp> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
        let mut chars = text.chars();
        let kind = chars.next().ok_or(NotScp)?;
        let rest = chars.as_str();
        match kind {
            'C' | 'D' => {
                let mut parts = rest.splitn(3, ' ');
                let (_mode, size, name) = (parts.next(), parts.next(), parts.next());
                let size: u64 = size.and_then(|size| size.parse().ok()).ok_or(NotScp)?;
                let name = name.filter(|name| !name.is_empty()).ok_or(NotScp)?;
                if kind == 'D' {
                    if self.folders.len() >= MAX_DEPTH {
                        return Err(NotScp);
                    }
                    self.folders.push(name.to_owned());
                    return Ok(None);
                }
                let path =
                    self.folders.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("/");
                self.state = State::Content(size);
                Ok(Some(Found::File { path, size, end }))
            }
            'E' => {
                self.folders.pop();
                Ok(None)
            }
            'T' => Ok(None),
            '\u{1}' | '\u{2}' => Ok(Some(Found::Warning { message: rest.to_owned() })),
            _ => Err(NotScp),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_scps_own_command_lines_are_its_other_half() {
        assert_eq!(way(b"scp -t /tmp/x"), Some(Way::Upload));
        assert_eq!(way(b"scp -v -r -p -f /etc/hosts"), Some(Way::Download));
        assert_eq!(way(b"/usr/bin/scp -t -- x"), Some(Way::Upload));
        assert_eq!(way(b"scp a b"), None);
        assert_eq!(way(b"scpx -t a"), None);
        assert_eq!(way(b"cat; scp -t x"), None);
    }

    fn read_all(data: &[u8], cut: usize) -> Result<(Vec<String>, Vec<u8>), NotScp> {
        let (mut sender, mut told, mut content) = (Sender::default(), Vec::new(), Vec::new());
        for part in data.chunks(cut) {
            let mut at = 0;
            while let Some(found) = sender.read(part, &mut at)? {
                match found {
                    Found::File { path, size, .. } => told.push(format!("{path} {size}")),
                    Found::Done { .. } => told.push("done".to_owned()),
                    Found::Content { from, to } => content.extend_from_slice(&part[from..to]),
                    Found::Warning { message } => told.push(format!("! {message}")),
                }
            }
        }
        Ok((told, content))
    }

    #[test]
    fn files_are_found_however_they_are_cut() {
        let data =
            b"T1 0 1 0\nD0755 0 sub\nC0644 3 a b\nxyz\0E\n\x01no such file\nC0600 0 empty\n\0C0644 1 z\nQ\0";
        for cut in 1..data.len() {
            let (told, content) = read_all(data, cut).unwrap();
            let expected = ["sub/a b 3", "done", "! no such file", "empty 0", "done", "z 1", "done"];
            assert_eq!(told, expected, "cut at {cut}");
            assert_eq!(content, b"xyzQ");
        }
        assert_eq!(read_all(b"hello\n", 9), Err(NotScp));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, cut in 1usize..9) {
            let _ = read_all(&bytes, cut);
            let _ = way(&bytes);
        }
    }
}
