//! TLS to a target, as libpq's `sslmode` demands it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature_with_raw_key,
};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};

use super::certificate;
use super::error::Problem;
use super::url::{Roots, SslMode, TargetUrl};

/// What PostgreSQL calls itself in TLS (ALPN).
pub const ALPN: &[u8] = b"postgresql";

/// The TLS settings for a target; `None` for `sslmode=disable`.
///
/// # Errors
/// [`Problem::Material`] if a certificate or key that is kept with the target can't be read.
pub fn config(url: &TargetUrl) -> Result<Option<Arc<ClientConfig>>, Problem> {
    if url.sslmode == SslMode::Disable {
        return Ok(None);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let anchors = anchors(&url.roots)?;
    let verifier = Verifier {
        roots: anchors.as_deref().map(store).transpose()?,
        anchors: anchors.unwrap_or_default(),
        check_name: url.sslmode == SslMode::VerifyFull,
        provider: Arc::clone(&provider),
    };
    let versions: &[&SupportedProtocolVersion] = match url.tls_versions {
        (true, false) => &[&TLS12],
        (false, true) => &[&TLS13],
        _ => &[&TLS13, &TLS12],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| material("ssl_min_protocol_version", &error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &url.client_certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.expose()).collect();
            let chain = chain.map_err(|error| material("sslcert", &error))?;
            let key =
                PrivateKeyDer::from_pem_slice(key.expose()).map_err(|error| material("sslkey", &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| material("sslcert", &error))?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = url.sni;
    Ok(Some(Arc::new(config)))
}

fn material(what: &'static str, reason: &dyn std::error::Error) -> Problem {
    Problem::Material { what, reason: reason.to_string() }
}

/// The certificates to trust; `None` if none were given, so that none is checked.
fn anchors(roots: &Roots) -> Result<Option<Vec<CertificateDer<'static>>>, Problem> {
    let anchors: Vec<_> = match roots {
        Roots::None => return Ok(None),
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            if let (true, Some(error)) = (found.certs.is_empty(), found.errors.first()) {
                return Err(material("sslrootcert", error));
            }
            found.certs
        }
        Roots::Pem(pem) => {
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose()).collect();
            read.map_err(|error| material("sslrootcert", &error))?
        }
    };
    if anchors.is_empty() {
        let reason = "there is no certificate in it".to_owned();
        return Err(Problem::Material { what: "sslrootcert", reason });
    }
    Ok(Some(anchors))
}

fn store(anchors: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, Problem> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(anchors.iter().cloned());
    if added == 0 {
        let reason = "no certificate in it can be read".to_owned();
        return Err(Problem::Material { what: "sslrootcert", reason });
    }
    Ok(Arc::new(store))
}

/// Checks as much as the `sslmode` demands. The handshake's signature is always checked: without it the channel
/// binding would prove nothing.
#[derive(Debug)]
struct Verifier {
    roots: Option<Arc<RootCertStore>>,
    anchors: Vec<CertificateDer<'static>>,
    check_name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn check_chain(
        &self,
        roots: &RootCertStore,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // A self-signed server certificate that is its own root: common with PostgreSQL, valid for OpenSSL, and not
        // for webpki, where a root is never a server.
        if self.anchors.iter().any(|anchor| anchor == end_entity) {
            return certificate::check_validity(end_entity, now);
        }
        if certificate::is_self_signed(end_entity)? {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
    }

    /// The names of the certificate's subjectAltName; its common name only if it has none (RFC 6125, and libpq).
    fn check_name(end_entity: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
        if let Some(common_name) = certificate::common_name_without_alternatives(end_entity)? {
            let host = name.to_str();
            return if certificate::matches(&common_name, &host) {
                Ok(())
            } else {
                let (expected, presented) = (name.to_owned(), vec![common_name]);
                Err(CertificateError::NotValidForNameContext { expected, presented }.into())
            };
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            self.check_chain(roots, end_entity, intermediates, now)?;
        }
        if self.check_name {
            Self::check_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    /// By the bare key, so that X.509 version 1 certificates (the manual's own recipe made such for years) work
    /// where nothing is to be checked of them.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let key = SubjectPublicKeyInfoDer::from(certificate::public_key(certificate)?);
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Says what went wrong in a handshake.
pub fn explain(error: &std::io::Error) -> Problem {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(reason)) => Problem::Certificate(match reason {
            CertificateError::UnknownIssuer => {
                "none of the given root certificates has signed it; check sslrootcert".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "it has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "it is not valid yet; check the clocks".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it is for another host name than the URL's".to_owned()
            }
            CertificateError::Other(reason) => match reason.0.to_string().as_str() {
                "UnsupportedCertVersion" => {
                    "it is of X.509 version 1, which can't be checked; issue it anew with extensions"
                        .to_owned()
                }
                "CaUsedAsEndEntity" => "it is a certificate authority's, not a server's".to_owned(),
                other => other.to_owned(),
            },
            other => other.to_string(),
        }),
        Some(Error::AlertReceived(alert)) => {
            Problem::Tls(format!("the server ended it with the alert {alert:?}"))
        }
        Some(other) => Problem::Tls(other.to_string()),
        None => Problem::Tls(error.to_string()),
    }
}
