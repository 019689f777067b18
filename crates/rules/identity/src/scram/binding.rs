//! Channel binding `tls-server-end-point` (RFC 5929, section 4): the hash of the server's certificate.

use std::fmt;

use aws_lc_rs::digest;

/// What both ends of a TLS connection know and nobody in between can match: the hash of the server's
/// certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelBinding(Vec<u8>);

/// Why a certificate gives no channel binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is not DER, or no X.509 certificate.
    #[error("the certificate is not X.509 in DER")]
    Malformed,
    /// RFC 5929 defines the hash by the signature's algorithm, and says nothing of this one (Ed25519 is such).
    #[error(
        "no channel binding is defined for the certificate's signature algorithm; use an RSA or ECDSA signature"
    )]
    NoHash,
}

impl ChannelBinding {
    /// The binding of the server's certificate (the leaf, in DER).
    ///
    /// # Errors
    /// [`CertificateError`] if the certificate can't be read, or none is defined for it.
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        let algorithm = signature_hash(der)?;
        Ok(Self(digest::digest(algorithm, der).as_ref().to_vec()))
    }

    /// A binding computed elsewhere.
    #[must_use]
    pub const fn from_bytes(hash: Vec<u8>) -> Self {
        Self(hash)
    }

    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelBinding(tls-server-end-point)")
    }
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }` (RFC 5280, section 4.1).
fn signature_hash(der: &[u8]) -> Result<&'static digest::Algorithm, CertificateError> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (_, after_tbs) = element(certificate, SEQUENCE)?;
    let (algorithm, _) = element(after_tbs, SEQUENCE)?;
    let (oid, parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    match oid {
        // 1.2.840.113549.1.1: PKCS #1.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, kind] => match kind {
            // MD5 and SHA-1 are too weak: section 4.1 puts SHA-256 in their place.
            4 | 5 | 11 => Ok(&digest::SHA256),
            12 => Ok(&digest::SHA384),
            13 => Ok(&digest::SHA512),
            14 => Ok(&digest::SHA224),
            10 => pss_hash(parameters),
            _ => Err(CertificateError::NoHash),
        },
        // 1.2.840.10045.4: ECDSA.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 1] => Ok(&digest::SHA256),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, kind] => match kind {
            1 => Ok(&digest::SHA224),
            2 => Ok(&digest::SHA256),
            3 => Ok(&digest::SHA384),
            4 => Ok(&digest::SHA512),
            _ => Err(CertificateError::NoHash),
        },
        _ => Err(CertificateError::NoHash),
    }
}

/// RSASSA-PSS names its hash in the parameters (RFC 4055, section 3.1); without one it is SHA-1.
fn pss_hash(parameters: &[u8]) -> Result<&'static digest::Algorithm, CertificateError> {
    let (parameters, _) = element(parameters, SEQUENCE)?;
    if parameters.first() != Some(&CONTEXT_0) {
        return Ok(&digest::SHA256);
    }
    let (hash, _) = element(parameters, CONTEXT_0)?;
    let (hash, _) = element(hash, SEQUENCE)?;
    match element(hash, OBJECT_IDENTIFIER)?.0 {
        // 1.3.14.3.2.26: SHA-1.
        [0x2b, 0x0e, 0x03, 0x02, 0x1a] => Ok(&digest::SHA256),
        // 2.16.840.1.101.3.4.2: SHA-2.
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, kind] => match kind {
            1 => Ok(&digest::SHA256),
            2 => Ok(&digest::SHA384),
            3 => Ok(&digest::SHA512),
            4 => Ok(&digest::SHA224),
            _ => Err(CertificateError::NoHash),
        },
        _ => Err(CertificateError::NoHash),
    }
}

/// Splits one DER element of a known tag into its content and what follows it.
fn element(der: &[u8], tag: u8) -> Result<(&[u8], &[u8]), CertificateError> {
    let malformed = CertificateError::Malformed;
    let (&[found, first], rest) = der.split_first_chunk::<2>().ok_or(malformed)?;
    if found != tag {
        return Err(malformed);
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(malformed)?;
        if digits.is_empty() || digits.len() > 4 {
            return Err(malformed);
        }
        let length = digits.iter().fold(0usize, |length, digit| length << 8 | usize::from(*digit));
        (length, rest)
    };
    rest.split_at_checked(length).ok_or(malformed)
}
