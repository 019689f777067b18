use proptest::prelude::*;

use super::*;
use crate::Ed25519Signer;

/// The example note of the Go documentation of `golang.org/x/mod/sumdb/note`.
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fn signer(name: &str) -> Ed25519Signer {
    Ed25519Signer::from_seed(name, &[3; 32]).unwrap()
}

#[test]
fn a_note_of_others_verifies_and_writes_back() {
    let note = Note::parse(GO_NOTE.as_bytes()).unwrap();
    note.verify(&VerifierKey::parse(GO_VKEY).unwrap()).unwrap();
    assert_eq!(note.to_string(), GO_NOTE);
}

#[test]
fn a_changed_text_does_not_verify() {
    let note = Note::parse(GO_NOTE.replace("answer", "Answer").as_bytes()).unwrap();
    let key = VerifierKey::parse(GO_VKEY).unwrap();
    assert!(matches!(note.verify(&key), Err(NoteError::InvalidSignature { .. })));
    let stranger = signer("PeterNeumann");
    assert!(matches!(note.verify(stranger.verifier()), Err(NoteError::Unsigned { .. })));
}

#[test]
fn malformed_notes_are_refused() {
    let signature = "— a AAAAAAE=\n";
    Note::parse(format!("text\n\n{signature}").as_bytes()).unwrap();
    for note in [
        String::new(),
        "text\n".into(),
        "text\n\n".into(),
        format!("text\n{signature}"),
        format!("text\n\n{}", signature.trim_end()),
        format!("text\n\n{signature}\n"),
        format!("te\txt\n\n{signature}"),
        format!("text\r\n\n{signature}"),
        "text\n\n- a AAAAAAE=\n".into(),
        "text\n\n— a\n".into(),
        "text\n\n—  AAAAAAE=\n".into(),
        "text\n\n— a+b AAAAAAE=\n".into(),
        "text\n\n— a AAAAAA==\n".into(),
        "text\n\n— a AAAAAAF=\n".into(),
        format!("text\n\n{}", signature.repeat(101)),
    ] {
        assert!(matches!(Note::parse(note.as_bytes()), Err(NoteError::Malformed(_))), "{note:?}");
    }
    assert!(Note::parse(b"te\xffxt\n\n\xe2\x80\x94 a AAAAAAE=\n").is_err());
    assert!(Note::new("no newline").is_err());
}

#[test]
fn the_text_ends_at_the_last_empty_line() {
    let mut note = Note::new("one\n\ntwo\n").unwrap();
    note.sign(&signer("a")).unwrap();
    assert_eq!(Note::parse(note.to_string().as_bytes()).unwrap(), note);
}

#[test]
fn cosignatures_carry_their_time_and_verify() {
    let log = signer("example.com/log");
    let witness = signer("example.com/witness").into_cosigner().unwrap();
    let mut note = Note::new("example.com/log\n1\nAAAA\n").unwrap();
    note.sign(&log).unwrap();
    note.cosign(&witness, 1_679_315_147).unwrap();
    note.cosign(&witness, 1_679_315_150).unwrap();
    let read = Note::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(read.verify_cosignature(witness.verifier()).unwrap(), 1_679_315_150);
    read.verify(log.verifier()).unwrap();
    // The kinds cannot stand in for each other, even with the same private key.
    assert!(matches!(read.verify(witness.verifier()), Err(NoteError::WrongKeyKind { .. })));
    assert!(matches!(read.verify_cosignature(log.verifier()), Err(NoteError::WrongKeyKind { .. })));
    assert!(matches!(note.cosign(&witness, u64::MAX), Err(NoteError::TimeOutOfRange)));
    assert!(matches!(note.sign(&witness), Err(NoteError::WrongKeyKind { .. })));
    assert!(matches!(note.cosign(&log, 1), Err(NoteError::WrongKeyKind { .. })));
}

#[test]
fn a_cosignature_with_another_time_does_not_verify() {
    let witness = signer("w").into_cosigner().unwrap();
    let mut note = Note::new("log\n").unwrap();
    note.cosign(&witness, 100).unwrap();
    let mut line = note.signatures()[0].clone();
    line.signature[7] ^= 1;
    let mut changed = Note::new("log\n").unwrap();
    changed.add(line);
    let result = changed.verify_cosignature(witness.verifier());
    assert!(matches!(result, Err(NoteError::InvalidSignature { .. })));
}

#[test]
fn the_cosignature_message_is_that_of_the_specification() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let expected = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    assert_eq!(cosigned_message(1_679_315_147, text), expected);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic_and_what_is_read_is_written_back(note in "([\\PC\n—]{0,40}\n){0,3}\n(— [a-z]{1,3} [A-Za-z0-9+/]{8}\n){0,3}") {
        if let Ok(parsed) = Note::parse(note.as_bytes()) {
            prop_assert_eq!(parsed.to_string(), note);
        }
    }
}
