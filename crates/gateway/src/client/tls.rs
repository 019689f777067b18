//! TLS to a gateway's web listener.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cli::Failure;

/// A PEM file with the certificate authority to trust, in place of the system's.
const CA_VARIABLE: &str = "TRAILGATE_CA";

/// Wraps the connection; the certificate must be for `host`.
pub async fn connect(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::new(format!("`{host}` is no host name"), "check TRAILGATE_URL"))?;
    let ca = std::env::var_os(CA_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    TlsConnector::from(config(ca.as_deref())?).connect(name, stream).await.map_err(|error| {
        Failure::new(
            format!("the gateway's certificate was not accepted: {error}"),
            format!("if it signed its own, point {CA_VARIABLE} at a copy of its DATA/tls/ca.pem"),
        )
    })
}

/// Trusts the authorities in a PEM file, or the system's.
///
/// # Errors
/// [`Failure`] if there are none.
pub fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(format!("TLS can't be set up: {error}"), ""))?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        let unusable = |error: &dyn std::fmt::Display| {
            Failure::new(
                format!("can't use the certificates in {}: {error}", path.display()),
                "it has to be a PEM file with a certificate authority",
            )
        };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
    } else {
        let (_, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(Failure::new(
            "there is no certificate authority to check the other side by",
            format!("install the system's ca-certificates, or set {CA_VARIABLE}"),
        ));
    }
    Ok(roots)
}
