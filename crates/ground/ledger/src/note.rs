//! Signed notes (C2SP signed-note) and cosignatures on them (C2SP tlog-cosignature v1).

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{KeyKind, SIGNATURE_BYTES, SignError, Signer, VerifierKey, key::is_valid_key_name};

/// The longest note that is read, in bytes.
pub const MAX_NOTE_BYTES: usize = 1_000_000;
/// The most signature lines that are read. The specification demands at least 16.
pub const MAX_SIGNATURES: usize = 100;

const SIGNATURE_START: &str = "— ";

/// What is wrong with a note.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// It does not have the form of a signed note.
    #[error("this is not a signed note: {0}")]
    Malformed(&'static str),
    /// There is no signature by this key.
    #[error("the note is not signed by `{name}` with key {id:08x}")]
    Unsigned {
        /// Key name.
        name: String,
        /// Key id.
        id: u32,
    },
    /// There is a signature by this key and it does not verify.
    #[error("the signature of `{name}` does not belong to this text: one of both was changed")]
    InvalidSignature {
        /// Key name.
        name: String,
    },
    /// A plain key was used as a cosigner's or the other way round.
    #[error("the key of `{name}` makes another kind of signature than the one asked for")]
    WrongKeyKind {
        /// Key name.
        name: String,
    },
    /// A cosignature time beyond 2^63 - 1.
    #[error("the time of a cosignature must be below 2^63 seconds")]
    TimeOutOfRange,
    /// The signer failed.
    #[error("could not sign the note")]
    Sign(#[from] SignError),
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Key name.
    pub name: String,
    /// Key id.
    pub key_id: u32,
    /// What follows the key id: 64 bytes for Ed25519, 8 + 64 for a cosignature.
    pub signature: Vec<u8>,
}

impl NoteSignature {
    /// Reads a signature line without its newline.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let line = line
            .strip_prefix(SIGNATURE_START)
            .ok_or(NoteError::Malformed("a signature line must start with a dash"))?;
        let (name, signature) = line
            .split_once(' ')
            .ok_or(NoteError::Malformed("a signature line must have a name and a signature"))?;
        if !is_valid_key_name(name) {
            return Err(NoteError::Malformed("a key name must not be empty or have spaces or `+`"));
        }
        let bytes = BASE64_STANDARD
            .decode(signature)
            .map_err(|_| NoteError::Malformed("a signature must be standard Base64"))?;
        match bytes.split_first_chunk::<4>() {
            Some((id, signature)) if !signature.is_empty() => Ok(Self {
                name: name.to_owned(),
                key_id: u32::from_be_bytes(*id),
                signature: signature.to_vec(),
            }),
            _ => Err(NoteError::Malformed("a signature must be longer than its key id")),
        }
    }

    fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.key_id == key.id()
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.signature);
        write!(f, "{SIGNATURE_START}{} {}", self.name, BASE64_STANDARD.encode(bytes))
    }
}

/// A text and its signatures. Having one does not mean that any signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note yet to be signed.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if the text does not end in a newline, has control characters or is too long.
    pub fn new(text: impl Into<String>) -> Result<Self, NoteError> {
        let text = text.into();
        check_characters(&text)?;
        if !text.ends_with('\n') {
            return Err(NoteError::Malformed("the text must end in a newline"));
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// Reads a signed note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(note: &[u8]) -> Result<Self, NoteError> {
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Malformed("it must be UTF-8"))?;
        check_characters(note)?;
        let blank = note.rfind("\n\n").ok_or(NoteError::Malformed("no blank line before the signatures"))?;
        let (text, rest) = note.split_at(blank + 1);
        let lines = rest
            .strip_prefix('\n')
            .and_then(|rest| rest.strip_suffix('\n'))
            .ok_or(NoteError::Malformed("it must end in signature lines, each with its newline"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::Malformed("it has more than 100 signatures"));
            }
            signatures.push(NoteSignature::parse(line)?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The signed text, with its final newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All signature lines, verified or not.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line; an equal one is not repeated.
    pub fn add(&mut self, signature: NoteSignature) {
        if !self.signatures.contains(&signature) {
            self.signatures.push(signature);
        }
    }

    /// Signs the text with a key of kind [`KeyKind::Ed25519`].
    ///
    /// # Errors
    /// [`NoteError::WrongKeyKind`], [`NoteError::Sign`].
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<(), NoteError> {
        let key = signer.verifier();
        expect_kind(key, KeyKind::Ed25519)?;
        let signature = signer.sign(self.text.as_bytes())?.to_vec();
        self.add(NoteSignature { name: key.name().to_owned(), key_id: key.id(), signature });
        Ok(())
    }

    /// Cosigns the text (a checkpoint) as of `unix_time_s` with a key of kind [`KeyKind::Cosignature`].
    ///
    /// # Errors
    /// [`NoteError::WrongKeyKind`], [`NoteError::TimeOutOfRange`], [`NoteError::Sign`].
    pub fn cosign(&mut self, signer: &dyn Signer, unix_time_s: u64) -> Result<(), NoteError> {
        let key = signer.verifier();
        expect_kind(key, KeyKind::Cosignature)?;
        if i64::try_from(unix_time_s).is_err() {
            return Err(NoteError::TimeOutOfRange);
        }
        let mut signature = unix_time_s.to_be_bytes().to_vec();
        signature.extend_from_slice(&signer.sign(cosigned_message(unix_time_s, &self.text).as_bytes())?);
        self.add(NoteSignature { name: key.name().to_owned(), key_id: key.id(), signature });
        Ok(())
    }

    /// Checks that the text is signed by this key of kind [`KeyKind::Ed25519`].
    ///
    /// # Errors
    /// [`NoteError::Unsigned`], [`NoteError::InvalidSignature`], [`NoteError::WrongKeyKind`].
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        expect_kind(key, KeyKind::Ed25519)?;
        let mut signed = false;
        for line in self.signatures.iter().filter(|line| line.is_by(key)) {
            if !key.verify(self.text.as_bytes(), &line.signature) {
                return Err(NoteError::InvalidSignature { name: key.name().to_owned() });
            }
            signed = true;
        }
        if signed { Ok(()) } else { Err(unsigned(key)) }
    }

    /// Checks that the text is cosigned by this key of kind [`KeyKind::Cosignature`] and returns the time of its
    /// latest cosignature, in seconds since 1970.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`], [`NoteError::InvalidSignature`], [`NoteError::WrongKeyKind`].
    pub fn verify_cosignature(&self, key: &VerifierKey) -> Result<u64, NoteError> {
        expect_kind(key, KeyKind::Cosignature)?;
        let invalid = || NoteError::InvalidSignature { name: key.name().to_owned() };
        let mut latest = None;
        for line in self.signatures.iter().filter(|line| line.is_by(key)) {
            let (time, signature) = line.signature.split_first_chunk::<8>().ok_or_else(invalid)?;
            let time = u64::from_be_bytes(*time);
            let in_range = i64::try_from(time).is_ok() && signature.len() == SIGNATURE_BYTES;
            if !in_range || !key.verify(cosigned_message(time, &self.text).as_bytes(), signature) {
                return Err(invalid());
            }
            latest = latest.max(Some(time));
        }
        latest.ok_or_else(|| unsigned(key))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

fn cosigned_message(unix_time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {unix_time_s}\n{text}")
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::Malformed("it is longer than a million bytes"));
    }
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Malformed("it has control characters"));
    }
    Ok(())
}

fn expect_kind(key: &VerifierKey, kind: KeyKind) -> Result<(), NoteError> {
    if key.kind() == kind { Ok(()) } else { Err(NoteError::WrongKeyKind { name: key.name().to_owned() }) }
}

fn unsigned(key: &VerifierKey) -> NoteError {
    NoteError::Unsigned { name: key.name().to_owned(), id: key.id() }
}

#[cfg(test)]
mod tests;
