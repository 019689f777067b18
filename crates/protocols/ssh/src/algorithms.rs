//! What both legs offer: only what is sound today, the fastest first.
//!
//! OpenSSH's clients choose by their own order; to targets the gateway chooses. SHA-1, CBC and groups under 2,048 bits
//! are not offered at all.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Limits, Preferred, SshId, cipher, compression, kex, mac};

/// Largest payload of one data packet, in bytes (RFC 4253, section 6.1: at least 32,768 has to work).
pub(crate) const MAX_PACKET_BYTES: u32 = 32 * 1024;

/// Bytes and time after which keys are made anew (RFC 4253, section 9: every gigabyte, every hour).
const REKEY_BYTES: usize = 1 << 30;
const REKEY_TIME: Duration = Duration::from_secs(3600);

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::DH_G16_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

fn host_keys() -> Vec<Algorithm> {
    vec![
        Algorithm::Ed25519,
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// What the gateway offers to clients.
pub(crate) fn to_client() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Owned(host_keys()),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// What the gateway offers to a target of which keys with these algorithms are known, and perhaps authorities.
pub(crate) fn to_target(known: Vec<Algorithm>, certificates: bool) -> Preferred {
    let mut keys: Vec<Algorithm> = Vec::new();
    for algorithm in known {
        match algorithm {
            Algorithm::Rsa { .. } => {
                keys.extend(host_keys().into_iter().filter(|known| matches!(known, Algorithm::Rsa { .. })));
            }
            other => keys.push(other),
        }
    }
    if keys.is_empty() {
        keys = host_keys();
    }
    let certified = if certificates { host_keys() } else { Vec::new() };
    Preferred { key: Cow::Owned(keys), host_key_certificates: Cow::Owned(certified), ..to_client() }
}

pub(crate) fn rekey_limits() -> Limits {
    Limits { rekey_write_limit: REKEY_BYTES, rekey_read_limit: REKEY_BYTES, rekey_time_limit: REKEY_TIME }
}

/// How the gateway calls itself on both legs (RFC 4253, section 4.2).
pub(crate) fn software() -> SshId {
    SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-Trailgate_", env!("CARGO_PKG_VERSION"))))
}
