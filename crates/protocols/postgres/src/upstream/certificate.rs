//! The few things of a server's certificate that rustls does not tell.

use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::name::RelativeDistinguishedName;

/// id-at-commonName (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// id-ce-subjectAltName (RFC 5280, section 4.2.1.6).
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

fn parse(der: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding.into())
}

/// The public key, as SubjectPublicKeyInfo in DER.
pub fn public_key(der: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    let certificate = parse(der)?;
    let key = certificate.tbs_certificate().subject_public_key_info().to_der();
    key.map_err(|_| CertificateError::BadEncoding.into())
}

/// Whether it is valid at `now`.
pub fn check_validity(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let certificate = parse(der)?;
    let validity = certificate.tbs_certificate().validity();
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Whether it names itself as its issuer, so that only itself can be its root.
pub fn is_self_signed(der: &CertificateDer<'_>) -> Result<bool, Error> {
    let certificate = parse(der)?;
    let tbs = certificate.tbs_certificate();
    Ok(tbs.issuer() == tbs.subject())
}

/// The subject's common name, if the certificate has no subjectAltName that would count instead.
pub fn common_name_without_alternatives(der: &CertificateDer<'_>) -> Result<Option<String>, Error> {
    let certificate = parse(der)?;
    let tbs = certificate.tbs_certificate();
    let extensions = tbs.extensions().map(Vec::as_slice).unwrap_or_default();
    if extensions.iter().any(|extension| extension.extn_id == SUBJECT_ALT_NAME) {
        return Ok(None);
    }
    let names = tbs.subject().iter_rdn().flat_map(RelativeDistinguishedName::iter);
    // The last one is the most specific. Its tag differs (UTF8String, PrintableString), its bytes are text.
    let name = names.filter(|attribute| attribute.oid == COMMON_NAME).last();
    let text = name.and_then(|attribute| String::from_utf8(attribute.value.value().to_vec()).ok());
    Ok(text.filter(|text| !text.contains('\0')))
}

/// Whether a name in a certificate is that of `host`: equal but for case, or `*.` before all but the first label.
pub fn matches(presented: &str, host: &str) -> bool {
    if presented.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(presented), Some((label, rest))) = (presented.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    !label.is_empty() && !is_address && presented.contains('.') && presented.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(matches("db.example.com", "DB.example.com"));
        assert!(matches("*.example.com", "db.example.com"));
        assert!(!matches("*.example.com", "a.db.example.com"));
        assert!(!matches("*.example.com", "example.com"));
        assert!(!matches("*.com", "example.com"));
        assert!(!matches("*.0.0.1", "127.0.0.1"));
        assert!(!matches("*", "db"));
    }
}
