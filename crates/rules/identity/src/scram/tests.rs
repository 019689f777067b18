use proptest::prelude::*;
use vocabulary::{CredentialId, PrincipalId, PrincipalKind, Timestamp};

use super::*;
use crate::principal::{Credential, Principal};
use crate::token::Token;

const PLAIN: &[u8] = b"SCRAM-SHA-256";
const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";

fn principal(verifiers: &[ScramVerifier]) -> Principal {
    let credential = |(number, scram): (u8, &ScramVerifier)| Credential {
        id: CredentialId::from_bytes([number; 16]),
        scram: scram.clone(),
        token_digest: crate::token::TokenDigest([0; 32]),
        created_at: Timestamp(0),
        expires_at: None,
        revoked_at: None,
    };
    Principal {
        id: PrincipalId::from_bytes([1; 16]),
        kind: PrincipalKind::Agent,
        name: "user".parse().unwrap(),
        on_behalf_of: None,
        groups: Vec::new(),
        ssh_keys: Vec::new(),
        roles: Vec::new(),
        disabled: false,
        credentials: (0..).zip(verifiers).map(credential).collect(),
    }
}

fn pencil() -> ScramVerifier {
    let salt = message::base64("W22ZaJ0SNY7soEsUEjb6gQ==", "").unwrap();
    ScramVerifier::derive(b"pencil", salt.try_into().unwrap(), 4096)
}

fn decoy() -> Decoy {
    Decoy::new([9; 32])
}

fn binding(byte: u8) -> ChannelBinding {
    ChannelBinding::from_bytes(vec![byte; 32])
}

fn server(binding: Option<ChannelBinding>) -> ScramServer {
    ScramServer::new(Some(&principal(&[pencil()])), b"user", &decoy(), binding)
}

/// Runs a whole exchange; `seen` is the certificate that the client sees, `own` that of the server.
fn exchange(
    server: ScramServer,
    password: &[u8],
    seen: Option<&ChannelBinding>,
    policy: ChannelBindingPolicy,
) -> Result<(CredentialId, Mechanism), ScramError> {
    let offered = server.mechanisms().iter().map(|mechanism| mechanism.as_str().as_bytes());
    let client = ScramClient::new(offered, seen, policy, Nonce::random().unwrap())?;
    let mechanism = client.mechanism();
    let challenge = server.challenge(mechanism, client.message(), &Nonce::random().unwrap())?;
    let answer = client.challenged(challenge.message())?;
    let keys = SaltedKeys::derive(password, answer.salt(), answer.iterations());
    let last = answer.prove(&keys);
    let proof = challenge.verify(last.message())?;
    last.verify(proof.message())?;
    Ok((proof.credential(), mechanism))
}

/// The example of RFC 7677, section 3.
mod rfc7677 {
    pub const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    pub const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    pub const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    pub const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    pub const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    pub const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
}

#[test]
fn the_server_speaks_the_rfcs_example() {
    let nonce = Nonce::literal(rfc7677::SERVER_NONCE);
    let challenge = server(None).challenge(Mechanism::ScramSha256, rfc7677::CLIENT_FIRST, &nonce).unwrap();
    assert_eq!(challenge.message(), rfc7677::SERVER_FIRST);
    let proof = challenge.verify(rfc7677::CLIENT_FINAL).unwrap();
    assert_eq!(proof.message(), rfc7677::SERVER_FINAL);
}

#[test]
fn the_client_speaks_the_rfcs_example() {
    let client = ScramClient::example("user", Nonce::literal(rfc7677::CLIENT_NONCE));
    assert_eq!(client.message(), rfc7677::CLIENT_FIRST);
    let answer = client.challenged(rfc7677::SERVER_FIRST).unwrap();
    let keys = SaltedKeys::derive(b"pencil", answer.salt(), answer.iterations());
    let last = answer.prove(&keys);
    assert_eq!(last.message(), rfc7677::CLIENT_FINAL);
    last.verify(rfc7677::SERVER_FINAL).unwrap();
}

#[test]
fn both_ends_agree_with_and_without_binding() {
    let first = CredentialId::from_bytes([0; 16]);
    let bound = binding(7);
    let run = |own: Option<ChannelBinding>, seen, policy| exchange(server(own), b"pencil", seen, policy);
    let prefer = ChannelBindingPolicy::Prefer;
    assert_eq!(run(None, None, prefer), Ok((first, Mechanism::ScramSha256)));
    // `y`: the client could bind, the server can't.
    assert_eq!(run(None, Some(&bound), prefer), Ok((first, Mechanism::ScramSha256)));
    assert_eq!(run(Some(bound.clone()), Some(&bound), prefer), Ok((first, Mechanism::ScramSha256Plus)));
    assert_eq!(
        run(Some(bound.clone()), Some(&bound), ChannelBindingPolicy::Require),
        Ok((first, Mechanism::ScramSha256Plus))
    );
    assert_eq!(
        run(Some(bound.clone()), Some(&bound), ChannelBindingPolicy::Disable),
        Ok((first, Mechanism::ScramSha256))
    );
    assert!(matches!(
        run(None, Some(&bound), ChannelBindingPolicy::Require),
        Err(ScramError::NoMechanism(_))
    ));
    // Somebody in between shows a certificate of their own.
    assert_eq!(run(Some(bound.clone()), Some(&binding(8)), prefer), Err(ScramError::BindingMismatch));
}

#[test]
fn a_wrong_password_and_an_unknown_name_fail_alike() {
    let prefer = ChannelBindingPolicy::Prefer;
    assert_eq!(exchange(server(None), b"Pencil", None, prefer), Err(ScramError::Proof));
    let nobody = ScramServer::new(None, b"user", &decoy(), None);
    assert_eq!(exchange(nobody, b"pencil", None, prefer), Err(ScramError::Proof));
    let without_token = ScramServer::new(Some(&principal(&[])), b"user", &decoy(), None);
    assert_eq!(exchange(without_token, b"pencil", None, prefer), Err(ScramError::Proof));
}

#[test]
fn a_decoy_challenge_looks_like_a_real_one_and_stays_the_same() {
    let nonce = Nonce::from_bytes([1; 18]);
    let challenge = |claimed: &[u8], decoy: &Decoy| {
        let server = ScramServer::new(None, claimed, decoy, None);
        let challenge = server.challenge(Mechanism::ScramSha256, b"n,,n=,r=abc", &nonce).unwrap();
        String::from_utf8(challenge.message().to_vec()).unwrap()
    };
    let real = server(None).challenge(Mechanism::ScramSha256, b"n,,n=,r=abc", &nonce).unwrap();
    assert_eq!(challenge(b"mallory", &decoy()).len(), real.message().len());
    assert_eq!(challenge(b"mallory", &decoy()), challenge(b"mallory", &decoy()));
    assert_ne!(challenge(b"mallory", &decoy()), challenge(b"trudy", &decoy()));
    assert_ne!(challenge(b"mallory", &decoy()), challenge(b"mallory", &Decoy::new([8; 32])));
}

#[test]
fn each_of_a_rotations_two_tokens_passes() {
    let tokens = [Token::mint().unwrap(), Token::mint().unwrap()];
    let verifiers = tokens.each_ref().map(|token| ScramVerifier::of_token(token, [4; 16]));
    for (number, token) in (0u8..).zip(&tokens) {
        let server = ScramServer::new(Some(&principal(&verifiers)), b"user", &decoy(), None);
        let passed = exchange(server, token.expose().as_bytes(), None, ChannelBindingPolicy::Prefer).unwrap();
        assert_eq!(passed.0, CredentialId::from_bytes([number; 16]));
    }
}

#[test]
fn flags_are_held_to_the_mechanism() {
    let bound = || Some(binding(7));
    let first = |own: Option<ChannelBinding>, mechanism, flag: &str| {
        let message = format!("{flag},,n=,r=abc");
        server(own).challenge(mechanism, message.as_bytes(), &Nonce::from_bytes([1; 18])).map(drop)
    };
    use Mechanism::{ScramSha256 as Plain, ScramSha256Plus as Plus};
    assert_eq!(first(bound(), Plain, "n"), Ok(()));
    assert_eq!(first(bound(), Plain, "y"), Err(ScramError::Downgrade));
    assert_eq!(first(None, Plain, "y"), Ok(()));
    assert_eq!(first(None, Plus, "p=tls-server-end-point"), Err(ScramError::Mechanism));
    assert_eq!(first(bound(), Plus, "n"), Err(ScramError::Flag));
    assert_eq!(first(bound(), Plus, "y"), Err(ScramError::Flag));
    assert_eq!(first(bound(), Plain, "p=tls-server-end-point"), Err(ScramError::Flag));
    assert_eq!(first(bound(), Plus, "p=tls-unique"), Err(ScramError::BindingType));
    assert!(matches!(first(bound(), Plus, "x"), Err(ScramError::Malformed(_))));
}

#[test]
fn the_server_refuses_what_breaks_the_grammar() {
    let long = [b"n,,n=,r=".as_slice(), &[b'a'; MAX_MESSAGE_LEN]].concat();
    let cases: [&[u8]; 12] = [
        b"",
        b"n",
        b"n,",
        b"n,,",
        b"n,a=bob,n=,r=abc",
        b"n,,m=ext,n=,r=abc",
        b"n,,n=,r=abc,m=ext",
        b"n,,n=,r=",
        b"n,,n=,r=a b",
        b"n,,n=,r=abc,",
        b"n,,n=,r=\xff",
        &long,
    ];
    for case in cases {
        let nonce = Nonce::from_bytes([1; 18]);
        let error = server(None).challenge(Mechanism::ScramSha256, case, &nonce).unwrap_err();
        assert!(matches!(error, ScramError::Malformed(_)), "{error}: {}", String::from_utf8_lossy(case));
        assert!(error.is_protocol_violation());
    }
    // Optional extensions are ignored, as RFC 5802 asks.
    let nonce = Nonce::from_bytes([1; 18]);
    assert!(server(None).challenge(Mechanism::ScramSha256, b"n,,n=,r=abc,x=1", &nonce).is_ok());
}

#[test]
fn client_final_must_belong_to_the_exchange() {
    let verify = |message: &[u8]| {
        let nonce = Nonce::literal(rfc7677::SERVER_NONCE);
        let server = server(None);
        server
            .challenge(Mechanism::ScramSha256, rfc7677::CLIENT_FIRST, &nonce)
            .unwrap()
            .verify(message)
            .unwrap_err()
    };
    let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let of = |text: String| verify(text.as_bytes());
    assert_eq!(of(format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,{proof}")), ScramError::Nonce);
    assert_eq!(of(format!("c=eSws,{nonce},{proof}")), ScramError::BindingMismatch);
    assert_eq!(of(format!("c=biws,{nonce},x=1,{proof}")), ScramError::Proof);
    for bad in [
        format!("c=biws,{nonce}"),
        format!("c=biws,{nonce},p=AAAA"),
        format!("c=biws,{nonce},p=?"),
        format!("c=biws,{nonce},{proof},x=1"),
        format!("c=biws,{nonce},{proof},{proof}"),
        format!("c=biws,{nonce},m=1,{proof}"),
        format!("{nonce},c=biws,{proof}"),
        proof.to_owned(),
    ] {
        assert!(matches!(of(bad.clone()), ScramError::Malformed(_)), "{bad}");
    }
}

#[test]
fn a_hostile_target_gets_nowhere() {
    let client = || ScramClient::example("", Nonce::literal("abc"));
    let challenged = |message: &str| client().challenged(message.as_bytes()).map(drop);
    assert_eq!(challenged("r=abcdef,s=AAAA,i=4096"), Ok(()));
    assert_eq!(challenged("r=abcdef,s=AAAA,i=1000001"), Err(ScramError::Iterations(1_000_001)));
    assert_eq!(challenged("r=abc,s=AAAA,i=4096"), Err(ScramError::Nonce));
    assert_eq!(challenged("r=xyz,s=AAAA,i=4096"), Err(ScramError::Nonce));
    for bad in ["i=0", "i=-1", "i=+1", "i=", "i=99999999999", "i=1,m=x", "x=1"] {
        let text = format!("r=abcdef,s=AAAA,{bad}");
        assert!(matches!(challenged(&text), Err(ScramError::Malformed(_))), "{bad}");
    }
    assert!(matches!(challenged("r=abcdef,s=,i=1"), Err(ScramError::Malformed(_))));
    assert!(matches!(challenged("e=other-error"), Err(ScramError::Malformed(_))));

    let keys = SaltedKeys::derive(b"secret", b"salt", 1);
    let last = || client().challenged(b"r=abcdef,s=AAAA,i=1").unwrap().prove(&keys);
    let forged = format!("v={}", message::to_base64(&[0; 32]));
    assert_eq!(last().verify(forged.as_bytes()), Err(ScramError::ServerSignature));
    assert_eq!(last().verify(b"v="), Err(ScramError::ServerSignature));
    assert_eq!(last().verify(b"e=a\x07b"), Err(ScramError::Refused("a b".to_owned())));
}

#[test]
fn passwords_are_prepared_as_libpq_does() {
    let same = |left: &[u8], right: &[u8]| {
        SaltedKeys::derive(left, b"salt", 1) == SaltedKeys::derive(right, b"salt", 1)
    };
    // RFC 4013, section 3: soft hyphen vanishes, compatibility characters and odd spaces are mapped.
    assert!(same("I\u{ad}X".as_bytes(), b"IX"));
    assert!(same("\u{2168}".as_bytes(), b"IX"));
    assert!(same("a\u{a0}b".as_bytes(), b"a b"));
    // Not preparable: raw. A lone soft hyphen would come out empty, which PostgreSQL counts as such.
    for raw in [&b"\x07"[..], b"\xff\xfe", "\u{627}1".as_bytes(), "\u{ad}".as_bytes()] {
        assert!(same(raw, raw));
        assert!(!same(raw, b""));
    }
}

#[test]
fn the_cache_derives_once_and_forgets_the_oldest() {
    let cache = KeyCache::new(2);
    let first = cache.keys(b"secret", b"salt", 1);
    assert!(std::sync::Arc::ptr_eq(&first, &cache.keys(b"secret", b"salt", 1)));
    let _ = cache.keys(b"secret", b"salt", 2);
    let _ = cache.keys(b"secrets", b"alt", 1);
    assert!(!cache.holds(b"secret", b"salt", 1));
    assert!(cache.holds(b"secret", b"salt", 2));
    assert_eq!(*first, *cache.keys(b"secret", b"salt", 1));
}

#[test]
fn nothing_secret_shows_in_debug() {
    let principal = principal(&[pencil()]);
    let keys = SaltedKeys::derive(b"pencil", b"salt", 1);
    let shown = format!("{principal:?} {keys:?} {:?}", decoy());
    let [a, b, ..] = pencil().stored_key;
    assert!(!shown.contains(&format!("{a}, {b}")), "{shown}");
}

#[test]
fn real_certificates_have_the_binding_that_their_signature_says() {
    let hash_len = |algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["db".to_owned()]).unwrap().self_signed(&key).unwrap();
        ChannelBinding::of_certificate(certificate.der()).map(|binding| binding.as_bytes().len())
    };
    assert_eq!(hash_len(&rcgen::PKCS_ECDSA_P256_SHA256), Ok(32));
    assert_eq!(hash_len(&rcgen::PKCS_ECDSA_P384_SHA384), Ok(48));
    assert_eq!(hash_len(&rcgen::PKCS_ED25519), Err(CertificateError::NoHash));
}

proptest! {
    #[test]
    fn any_client_first_ends_in_a_challenge_or_an_error(text in "[nyp=,a-z:]{0,40}", bytes: Vec<u8>) {
        for message in [text.as_bytes(), &bytes] {
            let _ = server_without_pbkdf2().challenge(Mechanism::ScramSha256, message, &Nonce::from_bytes([1; 18]));
        }
    }

    #[test]
    fn any_client_final_fails(text in "[crp=,a-zA-Z0-9+/]{0,120}", bytes: Vec<u8>) {
        for message in [text.as_bytes(), &bytes] {
            let challenge = server_without_pbkdf2()
                .challenge(Mechanism::ScramSha256, b"n,,n=,r=abc", &Nonce::from_bytes([1; 18]))
                .unwrap();
            prop_assert!(challenge.verify(message).is_err());
        }
    }

    #[test]
    fn any_server_message_ends_in_an_answer_or_an_error(text in "r=abc[rsive=,a-zA-Z0-9+/]{0,80}", bytes: Vec<u8>) {
        for message in [text.as_bytes(), &bytes] {
            let client = ScramClient::example("", Nonce::literal("abc"));
            let _ = client.challenged(message);
        }
    }

    #[test]
    fn a_broken_certificate_is_an_error(bytes: Vec<u8>, cut in 0usize..200) {
        prop_assert!(ChannelBinding::of_certificate(&bytes).is_err());
        let der = [&[0x30, 0x82, 0x01, 0x00, 0x30, 0x03][..], &bytes].concat();
        prop_assert!(ChannelBinding::of_certificate(der.get(..cut).unwrap_or(&der)).is_err());
    }

    #[test]
    fn offered_lists_of_any_kind_are_read(offered: Vec<Vec<u8>>, plain: bool, plus: bool) {
        let mut offered: Vec<&[u8]> = offered.iter().map(Vec::as_slice).collect();
        if plain { offered.push(PLAIN) }
        if plus { offered.push(PLUS) }
        let bound = binding(1);
        let nonce = Nonce::from_bytes([1; 18]);
        let client = ScramClient::new(offered, Some(&bound), ChannelBindingPolicy::Prefer, nonce);
        prop_assert_eq!(client.is_ok(), plain || plus);
    }
}

fn server_without_pbkdf2() -> ScramServer {
    ScramServer::new(None, b"nobody", &decoy(), None)
}
