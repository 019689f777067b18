//! The legacy protocol of `scp -t` and `scp -f` (rcp's), both sides of it.
//!
//! One side has the files. It sends lines (`C` begins a file, `D` and `E` are the ends of a folder, `T` tells times, a byte
//! of 1 or 2 an error) and contents, with a byte behind each. The other side answers all but errors: a zero byte, or a byte
//! of 1 or 2 and a line.
//!
//! What the sender's next bytes are is the answer's to say: behind a `C` line that was not taken there is no content. So
//! nothing of the sender's goes on before the receiver has answered. OpenSSH's sender waits by itself; one that does not is
//! made to. Answers of a client that come before they are asked for wait as well, as they would in the target's pipe; an
//! answer of a target that nothing has asked for means that nobody can tell any more what it takes the next bytes for.

use bytes::Bytes;

/// Longest line, in bytes, its end included: OpenSSH takes a longer one for two.
const MAX_LINE_BYTES: usize = 2047;

/// Deepest nesting of folders.
const MAX_DEPTH: usize = 256;

/// What the trail keeps of a message, in characters.
const MAX_MESSAGE_CHARS: usize = 200;

/// Nothing can be told of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The bytes are not scp's protocol.
    #[error("this is not the protocol of scp")]
    NotScp,
    /// Something was said that the other side does not expect.
    #[error("the two sides of this copy are out of step")]
    OutOfStep,
}

/// Which way files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the target: `scp -t`.
    Upload,
    /// From the target: `scp -f`.
    Download,
}

/// A file's name, below the folders that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName {
    pub folders: Vec<Bytes>,
    pub name: Bytes,
}

/// The sender's next bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    /// They have to wait for the receiver's answer.
    Early,
    /// A line that needs no thought.
    Plain(Bytes),
    /// A file begins with this line, once [`Exchange::begin`] has said that it may.
    File { line: Bytes, name: FileName, size: u64 },
    /// Content of the file.
    Content(Bytes),
    /// The end of the file's content, and why it is not sound, if it is not. What became of it the receiver has to say.
    Whole { bytes: Bytes, trouble: Option<String> },
}

/// The receiver's next bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// They have to wait until the sender asks for them.
    Early,
    /// Nothing is over by them.
    Plain(Bytes),
    /// The file is over: taken, or not, for this reason.
    Ends(Bytes, Option<String>),
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The receiver has to answer before the sender goes on.
    Asked(Asked),
    Line,
    Content(u64),
    /// What the sender puts behind a file's content.
    Trailer,
    /// One side has given up.
    Over,
}

/// What the receiver has to answer.
#[derive(Debug, Clone, Copy)]
enum Asked {
    /// Whether to begin at all.
    Begin,
    File(u64),
    Folder,
    Line,
    Whole,
}

/// One copy, both sides of it.
#[derive(Debug)]
pub(crate) struct Exchange {
    way: Way,
    state: State,
    /// A line, and an answer, as far as they have come.
    line: Vec<u8>,
    answer: Vec<u8>,
    folders: Vec<Bytes>,
}

impl Exchange {
    pub(crate) const fn new(way: Way) -> Self {
        let state = State::Asked(Asked::Begin);
        Self { way, state, line: Vec::new(), answer: Vec::new(), folders: Vec::new() }
    }

    /// Takes the sender's next bytes out of `data`; `None` when more are needed.
    pub(crate) fn send(&mut self, data: &mut Bytes) -> Result<Option<Sent>, Fault> {
        if data.is_empty() {
            return Ok(None);
        }
        match self.state {
            State::Asked(_) => Ok(Some(Sent::Early)),
            State::Over => Err(Fault::OutOfStep),
            State::Content(left) => {
                let take = usize::try_from(left).map_or(data.len(), |left| left.min(data.len()));
                self.state = content(left - take as u64);
                Ok(Some(Sent::Content(data.split_to(take))))
            }
            State::Trailer => self.trailer(data),
            State::Line => match line(&mut self.line, data)? {
                Some(line) => self.line_read(line).map(Some),
                None => Ok(None),
            },
        }
    }

    /// A file that was told of may go on.
    pub(crate) fn begin(&mut self, size: u64) -> Result<(), Fault> {
        if !matches!(self.state, State::Line) {
            return Err(Fault::OutOfStep);
        }
        self.state = State::Asked(Asked::File(size));
        Ok(())
    }

    /// Takes the receiver's next bytes out of `data`; `None` when more are needed.
    pub(crate) fn answer(&mut self, data: &mut Bytes) -> Result<Option<Answer>, Fault> {
        if data.is_empty() {
            return Ok(None);
        }
        // A client's answer can't change what the target has sent; the target takes it when it asks.
        if self.way == Way::Download && !matches!(self.state, State::Asked(_) | State::Over) {
            return Ok(Some(Answer::Early));
        }
        let bytes = if self.answer.is_empty() && data.first() == Some(&0) {
            data.split_to(1)
        } else {
            match line(&mut self.answer, data)? {
                Some(answer) => answer,
                None => return Ok(None),
            }
        };
        self.answered(bytes).map(Some)
    }

    /// What has come of a line of the target that never became whole. Nothing more comes of it.
    pub(crate) fn rest_of_target(&mut self) -> Bytes {
        let rest = match self.way {
            Way::Upload => &mut self.answer,
            Way::Download => &mut self.line,
        };
        std::mem::take(rest).into()
    }

    /// A zero byte, or a warning: a line like any other that begins with a byte of 1.
    fn trailer(&mut self, data: &mut Bytes) -> Result<Option<Sent>, Fault> {
        if self.line.is_empty() && data.first() == Some(&0) {
            self.state = State::Asked(Asked::Whole);
            return Ok(Some(Sent::Whole { bytes: data.split_to(1), trouble: None }));
        }
        let Some(bytes) = line(&mut self.line, data)? else { return Ok(None) };
        let trouble = trouble(&bytes);
        self.state = if is_fatal(&bytes) { State::Over } else { State::Asked(Asked::Whole) };
        Ok(Some(Sent::Whole { bytes, trouble }))
    }

    fn line_read(&mut self, line: Bytes) -> Result<Sent, Fault> {
        let text = line.slice(..line.len().saturating_sub(1));
        match text.first() {
            Some(b'C') => {
                let (size, name) = entry(&text)?;
                let folders = self.folders.clone();
                return Ok(Sent::File { line, name: FileName { folders, name }, size });
            }
            Some(b'D') => {
                let (_, name) = entry(&text)?;
                if self.folders.len() >= MAX_DEPTH {
                    return Err(Fault::NotScp);
                }
                self.folders.push(name);
                self.state = State::Asked(Asked::Folder);
            }
            Some(b'E') => {
                self.folders.pop();
                self.state = State::Asked(Asked::Line);
            }
            Some(b'T') => self.state = State::Asked(Asked::Line),
            Some(1) => {}
            Some(2) => self.state = State::Over,
            _ => return Err(Fault::NotScp),
        }
        Ok(Sent::Plain(line))
    }

    fn answered(&mut self, bytes: Bytes) -> Result<Answer, Fault> {
        let trouble = trouble(&bytes);
        let (next, ends) = match (self.state, &trouble) {
            (State::Asked(Asked::File(size)), None) => (content(size), false),
            (State::Asked(Asked::File(_) | Asked::Whole), _) => (State::Line, true),
            (State::Asked(Asked::Folder), Some(_)) => {
                self.folders.pop();
                (State::Line, false)
            }
            (State::Asked(Asked::Begin | Asked::Folder | Asked::Line), _) => (State::Line, false),
            (State::Over, _) => (State::Over, false),
            (State::Line | State::Content(_) | State::Trailer, None) => return Err(Fault::OutOfStep),
            (State::Line | State::Content(_) | State::Trailer, Some(_)) => (State::Over, true),
        };
        self.state = if is_fatal(&bytes) { State::Over } else { next };
        Ok(if ends { Answer::Ends(bytes, trouble) } else { Answer::Plain(bytes) })
    }
}

const fn content(left: u64) -> State {
    if left == 0 { State::Trailer } else { State::Content(left) }
}

/// A line, its end included, once it is whole.
fn line(begun: &mut Vec<u8>, data: &mut Bytes) -> Result<Option<Bytes>, Fault> {
    let end = data.iter().position(|byte| *byte == b'\n').map_or(data.len(), |end| end + 1);
    let part = data.split_to(end);
    // OpenSSH reads a line as a C string: behind a zero byte it would see nothing.
    if begun.len() + part.len() > MAX_LINE_BYTES || part.contains(&0) {
        return Err(Fault::NotScp);
    }
    begun.extend_from_slice(&part);
    Ok(part.ends_with(b"\n").then(|| std::mem::take(begun).into()))
}

/// Size and name out of `C0644 123 NAME`.
fn entry(text: &Bytes) -> Result<(u64, Bytes), Fault> {
    let mut parts = text.splitn(3, |byte| *byte == b' ');
    let (Some(_mode), Some(size), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Fault::NotScp);
    };
    let digits = std::str::from_utf8(size).ok().filter(|size| size.bytes().all(|byte| byte.is_ascii_digit()));
    let size = digits.and_then(|digits| digits.parse().ok()).ok_or(Fault::NotScp)?;
    // It would be elsewhere than its line says: no scp takes it.
    if name.is_empty() || name == b".." || name.contains(&b'/') {
        return Err(Fault::NotScp);
    }
    Ok((size, text.slice_ref(name)))
}

/// Whether who says or hears it ends: all but a zero byte and a byte of 1.
fn is_fatal(said: &[u8]) -> bool {
    !matches!(said.first(), Some(0 | 1))
}

/// What is wrong; a zero byte says that nothing is.
fn trouble(said: &[u8]) -> Option<String> {
    let message = match said.split_first()? {
        (0, _) => return None,
        (1 | 2, message) => message,
        // A shell's own words.
        _ => said,
    };
    let message = String::from_utf8_lossy(message);
    Some(message.trim().chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lets both sides speak, each piece in a Bytes of its own, and tells what was made of it.
    struct Talk {
        copy: Exchange,
        told: Vec<String>,
        content: Vec<u8>,
    }

    impl Talk {
        fn new(way: Way) -> Self {
            Self { copy: Exchange::new(way), told: Vec::new(), content: Vec::new() }
        }

        /// Bytes of the sender that were held back.
        fn send(&mut self, data: &[u8]) -> Result<Bytes, Fault> {
            let mut data = Bytes::copy_from_slice(data);
            while let Some(sent) = self.copy.send(&mut data)? {
                match sent {
                    Sent::Early => break,
                    Sent::Plain(_) => {}
                    Sent::File { name, size, .. } => {
                        let path = [name.folders, vec![name.name]].concat().join(&b'/');
                        self.told.push(format!("{} {size}", String::from_utf8_lossy(&path)));
                        self.copy.begin(size)?;
                    }
                    Sent::Content(bytes) => self.content.extend_from_slice(&bytes),
                    Sent::Whole { trouble, .. } => {
                        self.told.push(format!("whole {}", trouble.unwrap_or_default()));
                    }
                }
            }
            Ok(data)
        }

        fn answer(&mut self, data: &[u8]) -> Result<Bytes, Fault> {
            let mut data = Bytes::copy_from_slice(data);
            while let Some(answer) = self.copy.answer(&mut data)? {
                match answer {
                    Answer::Early => break,
                    Answer::Plain(_) => {}
                    Answer::Ends(_, trouble) => self.told.push(trouble.unwrap_or_else(|| "taken".to_owned())),
                }
            }
            Ok(data)
        }

        /// One side and then the other, each to the end.
        fn both(&mut self, turns: &[(&[u8], &[u8])], cut: usize) {
            for (sent, answered) in turns {
                for part in sent.chunks(cut) {
                    assert_eq!(self.send(part), Ok(Bytes::new()), "{sent:?}");
                }
                for part in answered.chunks(cut) {
                    assert_eq!(self.answer(part), Ok(Bytes::new()), "{answered:?}");
                }
            }
        }
    }

    const TURNS: &[(&[u8], &[u8])] = &[
        (b"", b"\0"),
        (b"T1 0 1 0\n", b"\0"),
        (b"D0755 0 sub\n", b"\0"),
        (b"C0644 3 a b\n", b"\0"),
        (b"xyz\0", b"\0"),
        (b"C0644 9 closed\n", b"\x01scp: sub/closed: Permission denied\n"),
        (b"D0755 0 taken\n", b"\x01scp: sub/taken: Not a directory\n"),
        (b"C0600 0 empty\n", b"\0"),
        (b"\0", b"\0"),
        (b"E\n", b"\0"),
        (b"\x01scp: none: No such file or directory\n", b""),
        (b"C0644 1 z\n", b"\0"),
        (b"Q\x01scp: z: Input/output error\n", b"\0"),
        (b"C0644 1 full\n", b"\0"),
        (b"R\0", b"\x01scp: full: No space left on device\n"),
    ];

    #[test]
    fn files_are_found_however_they_are_cut() {
        for way in [Way::Upload, Way::Download] {
            for cut in 1..50 {
                let mut talk = Talk::new(way);
                talk.both(TURNS, cut);
                let expected = [
                    "sub/a b 3",
                    "whole ",
                    "taken",
                    "sub/closed 9",
                    "scp: sub/closed: Permission denied",
                    "sub/empty 0",
                    "whole ",
                    "taken",
                    "z 1",
                    "whole scp: z: Input/output error",
                    "taken",
                    "full 1",
                    "whole ",
                    "scp: full: No space left on device",
                ];
                assert_eq!(talk.told, expected, "cut at {cut}");
                assert_eq!(talk.content, b"xyzQR");
            }
        }
    }

    #[test]
    fn a_sender_that_does_not_wait_is_made_to() {
        let mut talk = Talk::new(Way::Upload);
        let ahead = b"C0644 1 a\nx\0C0644 1 b\ny\0";
        let rest = talk.send(ahead).unwrap();
        assert_eq!(&rest[..], ahead);
        talk.answer(b"\0").unwrap();
        let rest = talk.send(&rest).unwrap();
        assert_eq!(&rest[..], b"x\0C0644 1 b\ny\0");
        // Refused: what was sent ahead as its content is no line.
        talk.answer(b"\x01no\n").unwrap();
        assert_eq!(talk.send(&rest), Err(Fault::NotScp));
        assert_eq!((talk.told.len(), talk.content.len()), (2, 0));
    }

    #[test]
    fn answers_ahead_wait_if_they_are_a_clients() {
        let mut talk = Talk::new(Way::Download);
        let rest = talk.answer(b"\0\0\0").unwrap();
        assert_eq!(&rest[..], b"\0\0");
        assert!(talk.send(b"C0644 1 a\n").unwrap().is_empty());
        let rest = talk.answer(&rest).unwrap();
        assert_eq!(&rest[..], b"\0");
        talk.send(b"x\0").unwrap();
        assert!(talk.answer(&rest).unwrap().is_empty());
        assert_eq!(talk.told, ["a 1", "whole ", "taken"]);

        let mut talk = Talk::new(Way::Upload);
        assert_eq!(talk.answer(b"\0\0"), Err(Fault::OutOfStep));
    }

    #[test]
    fn nothing_follows_when_one_side_has_given_up() {
        for answer in [b"\x02lost\n".as_slice(), b"scp: command not found\n"] {
            let mut talk = Talk::new(Way::Upload);
            talk.answer(answer).unwrap();
            assert_eq!(talk.send(b"C0644 1 a\n"), Err(Fault::OutOfStep));
        }
        let mut talk = Talk::new(Way::Upload);
        talk.both(&[(b"", b"\0"), (b"C0644 5 a\n", b"\0"), (b"xy", b"\x01disk on fire\n")], 99);
        assert_eq!(talk.told, ["a 5", "disk on fire"]);
        assert_eq!(talk.send(b"z"), Err(Fault::OutOfStep));
    }

    #[test]
    fn lines_that_sides_may_read_differently_are_refused() {
        let long = [b"C0644 1 ".as_slice(), &[b'a'; 2038], b"\n"].concat();
        for (line, fault) in [
            (b"hello\n".as_slice(), true),
            (b"C0644 1 a\0b\n", true),
            (b"\0C0644 1 a\n", true),
            (b"C0644 +1 a\n", true),
            (b"C0644 1 ../a\n", true),
            (b"D0755 0 ..\n", true),
            (b"C0644 1 \n", true),
            (&long, false),
            (&[&long[..9], &long[8..]].concat(), true),
        ] {
            let mut talk = Talk::new(Way::Upload);
            talk.answer(b"\0").unwrap();
            assert_eq!(talk.send(line).is_err(), fault, "{}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(parts: Vec<(bool, Vec<u8>)>, upload: bool) {
            let mut talk = Talk::new(if upload { Way::Upload } else { Way::Download });
            for (sends, part) in parts {
                let _ = if sends { talk.send(&part) } else { talk.answer(&part) };
            }
        }
    }
}
