//! Who is at the door: tokens, SCRAM at both ends, and the certificate that a channel is bound to.

use std::sync::LazyLock;

use identity::scram::{
    ChannelBinding, ChannelBindingPolicy, Decoy, ITERATIONS, Mechanism, Nonce, SaltedKeys, ScramClient,
    ScramServer, ScramVerifier,
};
use identity::{Credential, Principal, Token, TokenDigest};
use vocabulary::{CredentialId, PrincipalId, PrincipalKind, Timestamp};

/// A token that nobody minted; its checksum is right.
pub const TOKEN: &str = "tg_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0we6Ab";

/// Salt of [`PRINCIPAL`].
pub const SALT: [u8; 16] = *b"salt of the test";

/// The hash that [`scram_server`] and [`scram_client`] bind their channel to.
pub const BINDING: [u8; 32] = [7; 32];

/// Most iterations that [`scram_client`] derives keys for, other than those of the seeds.
const FEW_ITERATIONS: u32 = 64;

/// The nonce of the end that the target plays.
#[must_use]
pub fn nonce() -> Nonce {
    Nonce::from_bytes([1; 18])
}

/// The nonce of the other end in the seeds.
#[must_use]
pub fn other_nonce() -> Nonce {
    Nonce::from_bytes([2; 18])
}

/// Deriving keys is the costly part, and nothing is read there: once for what the seeds have.
static KEYS: LazyLock<SaltedKeys> = LazyLock::new(|| SaltedKeys::derive(TOKEN.as_bytes(), &SALT, ITERATIONS));

/// The principal that [`scram_server`] knows; its one credential is [`TOKEN`].
pub static PRINCIPAL: LazyLock<Principal> = LazyLock::new(|| {
    let token = Token::parse(TOKEN).expect("the checksum is right");
    Principal {
        id: PrincipalId::from_bytes([1; 16]),
        kind: PrincipalKind::Agent,
        name: "chatgpt".parse().expect("a name"),
        on_behalf_of: None,
        groups: Vec::new(),
        ssh_keys: Vec::new(),
        roles: Vec::new(),
        disabled: false,
        credentials: vec![Credential {
            id: CredentialId::from_bytes([3; 16]),
            scram: ScramVerifier::of_token(&token, SALT),
            token_digest: token.digest(),
            created_at: Timestamp(0),
            expires_at: None,
            revoked_at: None,
        }],
    }
});

/// A text that is shown as a token: what is taken is taken whole.
pub fn token(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    if let Ok(token) = Token::parse(text) {
        assert_eq!(token.expose(), text);
        assert_eq!(text.len(), identity::token::TOKEN_CHARS);
        assert_eq!(token.digest().0, TokenDigest::of(data).0);
    }
}

/// Splits messages at zero bytes, which no SCRAM message has.
fn messages<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// A client logs in: client-first, a zero byte, client-final. Nobody passes as somebody who does not exist, and whoever
/// passes holds the one credential there is.
pub fn scram_server(data: &[u8]) {
    let decoy = Decoy::new([5; 32]);
    let [first, last] = messages(data);
    let bound = || ChannelBinding::from_bytes(BINDING.to_vec());
    for (binding, mechanism) in [
        (None, Mechanism::ScramSha256),
        (Some(bound()), Mechanism::ScramSha256),
        (Some(bound()), Mechanism::ScramSha256Plus),
    ] {
        for principal in [Some(&*PRINCIPAL), None] {
            let server = ScramServer::new(principal, b"chatgpt", &decoy, binding.clone());
            let Ok(challenge) = server.challenge(mechanism, first, &nonce()) else { continue };
            let said = crate::text(challenge.message()).expect("our own message is text").to_owned();
            assert!(said.starts_with("r=") && said.ends_with(",i=4096"), "{said}");
            if let Ok(proof) = challenge.verify(last) {
                assert_eq!(principal.map(|known| known.credentials[0].id), Some(proof.credential()));
                assert!(proof.message().starts_with(b"v="));
            }
        }
    }
}

/// The gateway logs in at a target: the mechanisms that it offers (names apart by spaces), a zero byte, server-first, a
/// zero byte, server-final. Nothing that a target says makes us derive keys without a bound on the work.
pub fn scram_client(data: &[u8]) {
    let [offered, first, last] = messages(data);
    let binding = ChannelBinding::from_bytes(BINDING.to_vec());
    for (binding, policy) in [
        (None, ChannelBindingPolicy::Prefer),
        (Some(&binding), ChannelBindingPolicy::Prefer),
        (Some(&binding), ChannelBindingPolicy::Require),
        (Some(&binding), ChannelBindingPolicy::Disable),
    ] {
        let names = offered.split(|byte| *byte == b' ');
        let Ok(client) = ScramClient::new(names, binding, policy, nonce()) else { continue };
        if policy == ChannelBindingPolicy::Require {
            assert_eq!(client.mechanism(), Mechanism::ScramSha256Plus);
        }
        let Ok(answer) = client.challenged(first) else { continue };
        assert!(!answer.salt().is_empty());
        assert!((1..=identity::scram::MAX_ITERATIONS).contains(&answer.iterations()));
        let done = match (answer.salt(), answer.iterations()) {
            (salt, ITERATIONS) if salt == SALT => answer.prove(&KEYS),
            (_, FEW_ITERATIONS..) => continue,
            (salt, iterations) => {
                let keys = SaltedKeys::derive(TOKEN.as_bytes(), salt, iterations);
                answer.prove(&keys)
            }
        };
        assert!(
            crate::text(done.message()).is_some_and(|said| said.starts_with("c=") && said.contains(",p="))
        );
        if done.verify(last).is_ok() {
            assert!(last.starts_with(b"v="), "a target that proved nothing is believed");
        }
    }
}

/// A target's certificate: its hash has one of the lengths of SHA-2.
pub fn certificate(data: &[u8]) {
    if let Ok(binding) = ChannelBinding::of_certificate(data) {
        assert!(matches!(binding.as_bytes().len(), 28 | 32 | 48 | 64));
    }
}
