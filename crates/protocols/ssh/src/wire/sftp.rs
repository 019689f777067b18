//! Packets of SFTP, version 3 (draft-ietf-secsh-filexfer-02), which is what OpenSSH and everybody else speaks.

use bytes::{Buf, Bytes, BytesMut};

/// Longest packet, in bytes, its length not counted: OpenSSH's `SFTP_MAX_MSG_LENGTH`.
pub(crate) const MAX_PACKET_BYTES: usize = 256 * 1024;

/// What the trail keeps of a server's message, in characters.
const MAX_MESSAGE_CHARS: usize = 200;

/// The bytes are not SFTP: nothing can be told of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not SFTP")]
pub(crate) struct NotSftp;

/// Takes packets out of a stream.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    buffer: BytesMut,
    whole: Bytes,
}

impl Packets {
    /// Adds what was received.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The packets that have come whole and were not taken yet: `None` when there are none. They are one piece, so that
    /// those that need no thought can go on together.
    pub(crate) fn whole(&mut self) -> Result<Option<&mut Bytes>, NotSftp> {
        if self.whole.is_empty() {
            let mut end = 0;
            loop {
                match packet_length(self.buffer.get(end..).unwrap_or_default()) {
                    Ok(Some(length)) => end += length,
                    Ok(None) => break,
                    // What came before is sound, and goes first.
                    Err(_) if end > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            self.whole = self.buffer.split_to(end).freeze();
        }
        Ok(Some(&mut self.whole).filter(|whole| !whole.is_empty()))
    }
}

/// Length of the packet that the bytes begin with, in bytes, its length field included; `None` when it is not whole yet.
pub(crate) fn packet_length(bytes: &[u8]) -> Result<Option<usize>, NotSftp> {
    let Some(head) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*head)).map_err(|_| NotSftp)?;
    if length == 0 || length > MAX_PACKET_BYTES {
        return Err(NotSftp);
    }
    Ok(Some(4 + length).filter(|whole| *whole <= bytes.len()))
}

/// Something that a client asks for, told apart as far as the trail needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// The first packet: a version.
    Init,
    /// To open a file; `flags` as in section 6.3.
    Open { id: u32, path: Bytes, flags: u32 },
    /// To open a folder for listing.
    OpenDir { id: u32, path: Bytes },
    /// To close either.
    Close { id: u32, handle: Bytes },
    /// To read from an open file.
    Read { id: u32, handle: Bytes, offset: u64 },
    /// To write to an open file.
    Write { id: u32, handle: Bytes, offset: u64, data: Bytes },
    /// To read more of an open folder.
    ReadDir { id: u32, handle: Bytes },
    /// Attributes of an open file.
    Handle { id: u32, verb: &'static str, handle: Bytes },
    /// Anything about one path.
    Path { id: u32, verb: &'static str, path: Bytes },
    /// Anything about two paths.
    Paths { id: u32, verb: &'static str, from: Bytes, to: Bytes },
    /// An extension (section 8): its name, and what follows.
    Extended { id: u32, name: Bytes, rest: Bytes },
    /// Nothing that is known.
    Unknown { id: u32, kind: u8 },
}

impl Request {
    /// The number that its answer will have.
    pub(crate) const fn id(&self) -> Option<u32> {
        match self {
            Self::Init => None,
            Self::Open { id, .. }
            | Self::OpenDir { id, .. }
            | Self::Close { id, .. }
            | Self::Read { id, .. }
            | Self::Write { id, .. }
            | Self::ReadDir { id, .. }
            | Self::Handle { id, .. }
            | Self::Path { id, .. }
            | Self::Paths { id, .. }
            | Self::Extended { id, .. }
            | Self::Unknown { id, .. } => Some(*id),
        }
    }

    /// The open file or folder that it is about.
    pub(crate) const fn handle(&self) -> Option<&Bytes> {
        match self {
            Self::Close { handle, .. }
            | Self::Read { handle, .. }
            | Self::Write { handle, .. }
            | Self::ReadDir { handle, .. }
            | Self::Handle { handle, .. } => Some(handle),
            Self::Init
            | Self::Open { .. }
            | Self::OpenDir { .. }
            | Self::Path { .. }
            | Self::Paths { .. }
            | Self::Extended { .. }
            | Self::Unknown { .. } => None,
        }
    }
}

/// Flags of SSH_FXP_OPEN.
pub(crate) const FLAG_WRITE: u32 = 0x2;
const FLAG_APPEND: u32 = 0x4;
const FLAG_CREATE: u32 = 0x8;
const FLAG_TRUNCATE: u32 = 0x10;

/// Whether a file is opened to be changed.
pub(crate) const fn changes(flags: u32) -> bool {
    flags & (FLAG_WRITE | FLAG_APPEND | FLAG_CREATE | FLAG_TRUNCATE) != 0
}

/// Something that a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The server's version.
    Version,
    /// How a request ended: a code (section 7), 0 for well, 1 for the end of a file.
    Status { id: u32, code: u32, message: Bytes },
    /// A file or folder is open.
    Handle { id: u32, handle: Bytes },
    /// What was read.
    Data { id: u32, data: Bytes },
    /// Names, attributes, or an extension's answer.
    Other { id: u32 },
}

impl Answer {
    /// The number of the request that it answers.
    pub(crate) const fn id(&self) -> Option<u32> {
        match self {
            Self::Version => None,
            Self::Status { id, .. }
            | Self::Handle { id, .. }
            | Self::Data { id, .. }
            | Self::Other { id } => Some(*id),
        }
    }

    /// Why the request failed, if it did. The end of a file or folder is no failure.
    pub(crate) fn failure(&self) -> Option<String> {
        match self {
            Self::Status { code, message, .. } if *code > 1 => {
                let message: String =
                    String::from_utf8_lossy(message).chars().take(MAX_MESSAGE_CHARS).collect();
                Some(if message.is_empty() { format!("SFTP status {code}") } else { message })
            }
            _ => None,
        }
    }
}

struct Reader(Bytes);

impl Reader {
    fn u8(&mut self) -> Result<u8, NotSftp> {
        if self.0.has_remaining() { Ok(self.0.get_u8()) } else { Err(NotSftp) }
    }

    fn u32(&mut self) -> Result<u32, NotSftp> {
        if self.0.remaining() >= 4 { Ok(self.0.get_u32()) } else { Err(NotSftp) }
    }

    fn u64(&mut self) -> Result<u64, NotSftp> {
        if self.0.remaining() >= 8 { Ok(self.0.get_u64()) } else { Err(NotSftp) }
    }

    fn string(&mut self) -> Result<Bytes, NotSftp> {
        let length = usize::try_from(self.u32()?).map_err(|_| NotSftp)?;
        if self.0.remaining() >= length { Ok(self.0.split_to(length)) } else { Err(NotSftp) }
    }
}

/// Reads a client's packet, its length included.
pub(crate) fn request(packet: &Bytes) -> Result<Request, NotSftp> {
    let mut reader = Reader(packet.slice(4.min(packet.len())..));
    let kind = reader.u8()?;
    if kind == 1 {
        return Ok(Request::Init);
    }
    let id = reader.u32()?;
    let path = |reader: &mut Reader, verb| Ok(Request::Path { id, verb, path: reader.string()? });
    let handle = |reader: &mut Reader, verb| Ok(Request::Handle { id, verb, handle: reader.string()? });
    match kind {
        3 => Ok(Request::Open { id, path: reader.string()?, flags: reader.u32()? }),
        4 => Ok(Request::Close { id, handle: reader.string()? }),
        5 => Ok(Request::Read { id, handle: reader.string()?, offset: reader.u64()? }),
        6 => {
            let (handle, offset) = (reader.string()?, reader.u64()?);
            Ok(Request::Write { id, handle, offset, data: reader.string()? })
        }
        7 | 17 => path(&mut reader, "STAT"),
        8 => handle(&mut reader, "STAT"),
        9 => path(&mut reader, "SETSTAT"),
        10 => handle(&mut reader, "SETSTAT"),
        11 => Ok(Request::OpenDir { id, path: reader.string()? }),
        12 => Ok(Request::ReadDir { id, handle: reader.string()? }),
        13 => path(&mut reader, "REMOVE"),
        14 => path(&mut reader, "MKDIR"),
        15 => path(&mut reader, "RMDIR"),
        16 => path(&mut reader, "REALPATH"),
        18 => Ok(Request::Paths { id, verb: "RENAME", from: reader.string()?, to: reader.string()? }),
        19 => path(&mut reader, "READLINK"),
        // OpenSSH has the two the other way round than the draft: the link's target first, then the link.
        20 => Ok(Request::Paths { id, verb: "SYMLINK", from: reader.string()?, to: reader.string()? }),
        200 => Ok(Request::Extended { id, name: reader.string()?, rest: reader.0 }),
        kind => Ok(Request::Unknown { id, kind }),
    }
}

/// As [`request`], with extensions taken apart whose meaning is known.
pub(crate) fn understood(packet: &Bytes) -> Result<Request, NotSftp> {
    match request(packet)? {
        Request::Extended { id, name, rest } => {
            Ok(extended(id, &name, &rest)?.unwrap_or(Request::Extended { id, name, rest }))
        }
        request => Ok(request),
    }
}

/// Takes an extension apart whose meaning is known (OpenSSH's PROTOCOL, section 4).
pub(crate) fn extended(id: u32, name: &[u8], rest: &Bytes) -> Result<Option<Request>, NotSftp> {
    let mut reader = Reader(rest.clone());
    let mut paths = |verb| {
        let (from, to) = (reader.string()?, reader.string()?);
        Ok(Some(Request::Paths { id, verb, from, to }))
    };
    match name {
        b"posix-rename@openssh.com" => paths("RENAME"),
        b"hardlink@openssh.com" => paths("LINK"),
        b"statvfs@openssh.com" | b"expand-path@openssh.com" | b"home-directory" => {
            Ok(Some(Request::Path { id, verb: "STAT", path: reader.string()? }))
        }
        b"lsetstat@openssh.com" => Ok(Some(Request::Path { id, verb: "SETSTAT", path: reader.string()? })),
        b"fstatvfs@openssh.com" | b"fsync@openssh.com" => {
            Ok(Some(Request::Handle { id, verb: "STAT", handle: reader.string()? }))
        }
        b"limits@openssh.com" | b"users-groups-by-id@openssh.com" => {
            Ok(Some(Request::Path { id, verb: "STAT", path: Bytes::new() }))
        }
        _ => Ok(None),
    }
}

/// Reads a server's packet, its length included.
pub(crate) fn answer(packet: &Bytes) -> Result<Answer, NotSftp> {
    let mut reader = Reader(packet.slice(4.min(packet.len())..));
    let kind = reader.u8()?;
    if kind == 2 {
        // Later versions have other packets; nobody offers them but who asks for them.
        return if reader.u32()? <= 3 { Ok(Answer::Version) } else { Err(NotSftp) };
    }
    let id = reader.u32()?;
    match kind {
        101 => {
            let code = reader.u32()?;
            // Version 2 servers send no message.
            Ok(Answer::Status { id, code, message: reader.string().unwrap_or_default() })
        }
        102 => Ok(Answer::Handle { id, handle: reader.string()? }),
        103 => Ok(Answer::Data { id, data: reader.string()? }),
        104 | 105 | 201 => Ok(Answer::Other { id }),
        _ => Err(NotSftp),
    }
}

/// `SSH_FX_PERMISSION_DENIED` with a sentence, for a request that the gateway does not let through.
pub(crate) fn denied(id: u32, sentence: &str) -> Bytes {
    status(id, 3, sentence)
}

/// `SSH_FX_FAILURE` with a sentence, for a request that makes no sense.
pub(crate) fn failed(id: u32, sentence: &str) -> Bytes {
    status(id, 4, sentence)
}

fn status(id: u32, code: u32, sentence: &str) -> Bytes {
    let mut packet = vec![0; 4];
    packet.push(101);
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&code.to_be_bytes());
    for text in [sentence.as_bytes(), b"en"] {
        packet.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
        packet.extend_from_slice(text);
    }
    let length = u32::try_from(packet.len() - 4).unwrap_or(0).to_be_bytes();
    packet.iter_mut().zip(length).for_each(|(to, from)| *to = from);
    packet.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(kind: u8, parts: &[&[u8]]) -> Bytes {
        let body: Vec<u8> = std::iter::once(kind).chain(parts.concat()).collect();
        [u32::try_from(body.len()).unwrap().to_be_bytes().as_slice(), &body].concat().into()
    }

    fn string(text: &str) -> Vec<u8> {
        [u32::try_from(text.len()).unwrap().to_be_bytes().as_slice(), text.as_bytes()].concat()
    }

    #[test]
    fn requests_are_told_apart() {
        let id = 7u32.to_be_bytes();
        let open = packet(3, &[&id, &string("/etc/hosts"), &1u32.to_be_bytes(), &0u32.to_be_bytes()]);
        assert_eq!(
            request(&open),
            Ok(Request::Open { id: 7, path: Bytes::from_static(b"/etc/hosts"), flags: 1 })
        );
        let rename = packet(18, &[&id, &string("/a"), &string("/b")]);
        assert!(matches!(request(&rename), Ok(Request::Paths { verb: "RENAME", .. })));
        assert_eq!(request(&packet(1, &[&3u32.to_be_bytes()])), Ok(Request::Init));
        assert_eq!(request(&packet(99, &[&id])), Ok(Request::Unknown { id: 7, kind: 99 }));
        assert_eq!(request(&packet(3, &[&id, &[0, 0, 0, 9]])), Err(NotSftp));
        assert!(changes(FLAG_WRITE) && changes(FLAG_CREATE) && !changes(1));
        let said = answer(&denied(7, "no")).unwrap();
        assert_eq!(said, Answer::Status { id: 7, code: 3, message: Bytes::from_static(b"no") });
    }

    #[test]
    fn packets_are_found_however_they_are_cut() {
        let whole = [packet(16, &[&[0; 4], &string(".")]), packet(1, &[&[0; 4]])].concat();
        for cut in 1..=whole.len() {
            let mut packets = Packets::default();
            let mut found = Vec::new();
            for part in whole.chunks(cut) {
                packets.push(part);
                while let Some(some) = packets.whole().unwrap() {
                    let length = packet_length(some).unwrap().unwrap();
                    found.extend_from_slice(&some.split_to(length));
                }
            }
            assert_eq!(found, whole);
        }
        let mut packets = Packets::default();
        packets.push(&[0xff; 8]);
        assert_eq!(packets.whole(), Err(NotSftp));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = (request(&bytes), answer(&bytes), extended(0, b"lsetstat@openssh.com", &bytes));
            let mut packets = Packets::default();
            packets.push(&bytes);
            while let Ok(Some(some)) = packets.whole() {
                some.clear();
            }
        }
    }
}
