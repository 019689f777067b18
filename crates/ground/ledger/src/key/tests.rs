use super::*;

/// The example key of the Go documentation of `golang.org/x/mod/sumdb/note`.
const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

#[test]
fn a_vkey_of_others_reads_and_writes() {
    let key = VerifierKey::parse(GO_VKEY).unwrap();
    assert_eq!((key.name(), key.id(), key.kind()), ("PeterNeumann", 0xc74f_20a3, KeyKind::Ed25519));
    assert_eq!(key.to_string(), GO_VKEY);
}

#[test]
fn damaged_vkeys_are_refused() {
    for vkey in [
        "",
        "a",
        "a+b+c",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpcQcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T=",
    ] {
        assert!(matches!(VerifierKey::parse(vkey), Err(KeyError::MalformedVerifierKey)), "{vkey}");
    }
    let other_name = GO_VKEY.replace("Peter", "Petra");
    assert!(matches!(VerifierKey::parse(&other_name), Err(KeyError::WrongKeyId { .. })));
    let no_name = GO_VKEY.replace("PeterNeumann", "");
    assert!(matches!(VerifierKey::parse(&no_name), Err(KeyError::InvalidName { .. })));
}

#[test]
fn key_names_have_no_spaces_and_no_plus() {
    for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\u{1}"] {
        assert!(matches!(Ed25519Signer::generate(name), Err(KeyError::InvalidName { .. })), "{name:?}");
    }
    assert!(is_valid_key_name("schlüssel.example/ö"));
}

#[test]
fn the_seed_of_rfc_8032_gives_its_public_key_and_signature() {
    // RFC 8032 section 7.1, test 1: the empty message.
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let signer = Ed25519Signer::from_seed("a", seed.as_slice().try_into().unwrap()).unwrap();
    assert_eq!(
        signer.verifier().public_key().to_vec(),
        hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    );
    assert_eq!(
        signer.sign(b"").unwrap().to_vec(),
        hex(concat!(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555",
            "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ))
    );
}

#[test]
fn a_file_that_is_no_key_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let error = Ed25519Signer::load("a", &path).unwrap_err();
    assert!(error.to_string().contains("node.key is not an Ed25519 private key"), "{error}");
}
