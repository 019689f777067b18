//! Tokens, SCRAM exchanges, certificates and targets' URLs.

use fuzz::identity::{BINDING, PRINCIPAL, TOKEN, nonce, other_nonce};
use identity::scram::{
    ChannelBinding, ChannelBindingPolicy, Decoy, Nonce, SaltedKeys, ScramClient, ScramServer,
};

use super::super::Seed;

const PLAIN: &str = "SCRAM-SHA-256";
const BOTH: &str = "SCRAM-SHA-256-PLUS SCRAM-SHA-256";

pub fn seeds() -> Vec<Seed> {
    let mut seeds = vec![
        ("token", "right", TOKEN.into()),
        ("token", "mistyped", TOKEN.replace("xyz", "xyy").replace("AB", "BA").into()),
        ("token", "short", b"tg_".to_vec()),
        ("token", "not_ascii", format!("tg_{}", "é".repeat(24)).into()),
        ("scram_server", "plain", logs_in(PLAIN, None)),
        ("scram_server", "bound", logs_in(BOTH, Some(&bound()))),
        ("scram_server", "downgrade", b"y,,n=,r=abc\0".to_vec()),
        ("scram_server", "authorization_identity", b"n,a=root,n=,r=abc\0".to_vec()),
        ("scram_server", "mandatory_extension", b"n,,m=x,n=,r=abc\0".to_vec()),
        ("scram_server", "other_binding_type", b"p=tls-exporter,,n=,r=abc\0".to_vec()),
        ("scram_client", "plain", is_let_in(PLAIN, None)),
        ("scram_client", "bound", is_let_in(BOTH, Some(&bound()))),
        ("scram_client", "refused", format!("{PLAIN}\0{}\0e=invalid-proof", challenge("i=16")).into()),
        ("scram_client", "too_many_iterations", format!("{PLAIN}\0{}\0", challenge("i=1000001")).into()),
        (
            "scram_client",
            "iterations_beyond_32_bits",
            format!("{PLAIN}\0{}\0", challenge("i=4294967296")).into(),
        ),
        ("scram_client", "zero_iterations", format!("{PLAIN}\0{}\0", challenge("i=0")).into()),
        ("scram_client", "nothing_offered", b"OAUTHBEARER\0\0".to_vec()),
    ];
    seeds.extend(certificates());
    seeds.extend(urls());
    seeds
}

fn bound() -> ChannelBinding {
    ChannelBinding::from_bytes(BINDING.to_vec())
}

/// All messages of a login that succeeds: client-first, server-first, client-final, server-final.
fn login(offered: &str, binding: Option<&ChannelBinding>, client: &Nonce, server: &Nonce) -> [Vec<u8>; 4] {
    let names = offered.split(' ').map(str::as_bytes);
    let policy = ChannelBindingPolicy::Prefer;
    let client = ScramClient::new(names, binding, policy, client.clone()).expect("a mechanism");
    let first = client.message().to_vec();
    let held = ScramServer::new(Some(&*PRINCIPAL), b"chatgpt", &Decoy::new([5; 32]), binding.cloned());
    let challenge = held.challenge(client.mechanism(), &first, server).expect("a challenge");
    let challenged = challenge.message().to_vec();
    let answer = client.challenged(&challenged).expect("an answer");
    let keys = SaltedKeys::derive(TOKEN.as_bytes(), answer.salt(), answer.iterations());
    let last = answer.prove(&keys).message().to_vec();
    let proof = challenge.verify(&last).expect("the proof fits");
    [first, challenged, last, proof.message().to_vec()]
}

/// What a client says that has the token.
fn logs_in(offered: &str, binding: Option<&ChannelBinding>) -> Vec<u8> {
    let [first, _, last, _] = login(offered, binding, &other_nonce(), &nonce());
    [first, last].join(&0)
}

/// What a target says that has the password's verifier.
fn is_let_in(offered: &str, binding: Option<&ChannelBinding>) -> Vec<u8> {
    let [_, challenged, _, last] = login(offered, binding, &nonce(), &other_nonce());
    [offered.as_bytes().to_vec(), challenged, last].join(&0)
}

/// server-first to the client of `scram_client`, whose nonce is known.
fn challenge(iterations: &str) -> String {
    let client = ScramClient::new([PLAIN.as_bytes()], None, ChannelBindingPolicy::Prefer, nonce())
        .expect("a mechanism");
    let said = String::from_utf8_lossy(client.message()).into_owned();
    let (_, nonce) = said.rsplit_once("r=").expect("a nonce");
    format!("r={nonce}more,s=c2FsdCBvZiB0aGUgdGVzdA==,{iterations}")
}

/// One DER element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or_default();
    // From 128 on a length has bytes of its own.
    let long = [0x81, length];
    let length = if length < 0x80 { &long[1..] } else { &long[..] };
    [&[tag][..], length, content].concat()
}

/// The outline of a certificate with that algorithm.
fn outline(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    let algorithm = der(0x30, &[der(0x06, oid), parameters.to_vec()].concat());
    der(0x30, &[der(0x30, &[0; 130]), algorithm, der(0x03, &[0; 8])].concat())
}

fn certificates() -> Vec<Seed> {
    const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    let rsa = |kind: u8| [&RSA[..], &[kind]].concat();
    let sha512 = der(0x30, &der(0x06, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 3]));
    let pss = der(0x30, &der(0xa0, &sha512));
    vec![
        ("certificate", "rsa_sha256", outline(&rsa(11), &[5, 0])),
        ("certificate", "rsa_md5", outline(&rsa(4), &[5, 0])),
        ("certificate", "rsa_pss_sha512", outline(&rsa(10), &pss)),
        ("certificate", "rsa_pss_without_hash", outline(&rsa(10), &der(0x30, &[]))),
        ("certificate", "ecdsa_sha384", outline(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 3], &[])),
        ("certificate", "ed25519", outline(&[0x2b, 0x65, 0x70], &[])),
        ("certificate", "length_of_four_bytes", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]),
        ("certificate", "length_without_end", vec![0x30, 0x80, 0, 0]),
    ]
}

fn urls() -> Vec<Seed> {
    let url = |name, text: &str| ("target_url", name, text.as_bytes().to_vec());
    vec![
        url("plain", "postgres://app:secret@db:5432/orders"),
        url("escaped", "postgresql://a%40b:s%40c%2Fr%23t%25@db/o%3Fo"),
        url("ipv6", "postgres://app:secret@[2001:db8::1]:6432/o"),
        url("socket", "postgres://app:secret@/orders?host=/run/postgresql"),
        url("socket_escaped", "postgres://app:secret@%2Frun%2Fpostgresql/orders"),
        url("query_only", "postgres:///orders?host=db&user=app&password=secret&port=5433"),
        url(
            "parameters",
            "postgres://app:secret@db/o?sslmode=require&application_name=gate%20way&connect_timeout=5&keepalives_idle=30&require_auth=!md5,!password&channel_binding=require",
        ),
        url("system_roots", "postgres://app@db?sslrootcert=system"),
        url(
            "references",
            "postgres://app:env:PASSWORD@db/o?sslmode=verify-full&sslrootcert=file:/etc/ca.pem",
        ),
        url("text", "postgres://app:text:env:X@db?sslnegotiation=direct&sslmode=require"),
        url("two_hosts", "postgres://app@a,b:5432,5433/o"),
        url("stray_at", "postgres://app:a/b@c@db"),
        url("bad_percent", "postgres://app:%zz@db"),
        url(
            "session_attributes",
            "postgres://app@db/o?target_session_attrs=read-write&options=-c%20geqo%3Doff&min_protocol_version=3.0",
        ),
    ]
}
