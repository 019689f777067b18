use super::*;
use crate::{Ed25519Signer, Signer as _, TreeHead, leaf_hash, node_hash};

fn proof() -> (TlogProof, Ed25519Signer) {
    let signer = Ed25519Signer::generate("example.com/log").unwrap();
    let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
    let head = TreeHead { origin: "example.com/log".into(), size: 2, root: node_hash(&a, &b) };
    let checkpoint = Checkpoint::sign(head, &signer).unwrap();
    (TlogProof { extra: None, index: 1, hashes: vec![a], checkpoint }, signer)
}

#[test]
fn the_text_is_that_of_the_specification() {
    let (mut proof, signer) = proof();
    let expected = format!("c2sp.org/tlog-proof@v1\nindex 1\n{}\n\n{}", leaf_hash(b"a"), proof.checkpoint);
    assert_eq!(proof.to_string(), expected);
    proof.extra = Some(b"hello".to_vec());
    let with_extra = proof.to_string();
    assert!(with_extra.starts_with("c2sp.org/tlog-proof@v1\nextra aGVsbG8=\nindex 1\n"));
    let read = TlogProof::parse(&with_extra).unwrap();
    assert_eq!(read, proof);
    read.verify(b"b", signer.verifier()).unwrap();
    assert!(read.verify(b"a", signer.verifier()).is_err());
}

#[test]
fn malformed_proofs_are_refused() {
    let text = proof().0.to_string();
    let changes = [
        ("tlog-proof@v1", "tlog-proof@v2"),
        ("index 1", "index 01"),
        ("index 1\n", ""),
        ("index 1", "extra !\nindex 1"),
        ("\n\n", "\nAAAA\n\n"),
        ("example.com/log\n2", "example.com/log\n02"),
    ];
    for (from, to) in changes {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert!(TlogProof::parse(&changed).is_err(), "{from} → {to}");
    }
    assert!(TlogProof::parse("").is_err());
}
