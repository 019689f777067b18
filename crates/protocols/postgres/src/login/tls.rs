//! The listener's own TLS.

use std::sync::Arc;

use identity::scram::{CertificateError, ChannelBinding};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use session::ServerTls;

use crate::upstream::tls::ALPN;

/// Why a listener has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain can't be read.
    #[error("the listener's certificate can't be read; it is a chain in PEM, the listener's own first")]
    Certificate(#[source] pem::Error),
    /// The file is empty, or holds something else.
    #[error("there is no certificate in the listener's certificate file; it is a chain in PEM")]
    NoCertificate,
    /// The key can't be read.
    #[error("the listener's private key can't be read; it is one key in PEM, without a passphrase")]
    Key(#[source] pem::Error),
    /// The two do not belong together, or the key is of a kind that is not supported.
    #[error("the listener's certificate and private key can't be used together")]
    Pair(#[source] rustls::Error),
}

/// TLS 1.2 and 1.3 with this certificate chain and key, both in PEM. A certificate for which no channel binding is
/// defined (Ed25519) works without SCRAM-SHA-256-PLUS.
///
/// # Errors
/// [`TlsError`].
pub fn server_tls(chain: &[u8], key: &[u8]) -> Result<ServerTls, TlsError> {
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(TlsError::Certificate)?;
    let first = chain.first().ok_or(TlsError::NoCertificate)?;
    let end_point = match ChannelBinding::of_certificate(first) {
        Ok(binding) => binding.as_bytes().to_vec(),
        Err(CertificateError::NoHash | CertificateError::Malformed) => Vec::new(),
    };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Pair)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(ServerTls { config: Arc::new(config), end_point })
}
