//! The listeners' certificates: the operator's, or ones that the node signs itself.
//!
//! A node without a certificate keeps a small authority of its own under `DATA/tls`: `ca.pem`, which clients are
//! given to check it by, and `ca.key` (0600). At every start it issues a certificate for the names and addresses of
//! the moment, whose key never touches the disk.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use identity::scram::ChannelBinding;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use session::ServerTls;

use crate::cli::Failure;

/// First year in which the node's own authority is valid. Early, so that a clock that is a little behind does no harm.
const VALID_FROM_YEAR: i32 = 2025;

/// First year in which it no longer is.
const VALID_UNTIL_YEAR: i32 = 2125;

/// A certificate chain, the leaf first, and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The authority that a node signs its own certificates with.
pub struct OwnAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Where clients find its certificate.
    pub ca_file: PathBuf,
}

impl Identity {
    /// Reads the operator's certificate and key.
    ///
    /// # Errors
    /// [`Failure`] names the file and what is wrong with it.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let unusable = |path: &Path, what: &str, error: &dyn std::fmt::Display| {
            Failure::new(
                format!("can't use the {what} in {}: {error}", path.display()),
                "it has to be a PEM file",
            )
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| unusable(certificate, "certificate", &error))?;
        if chain.is_empty() {
            return Err(unusable(certificate, "certificate", &"there is none"));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "private key", &error))?;
        Ok(Self { chain, key })
    }

    /// TLS for the PostgreSQL listener.
    ///
    /// # Errors
    /// [`Failure`] if certificate and key do not fit.
    pub fn postgres(self) -> Result<ServerTls, Failure> {
        // A certificate for which no binding is defined (Ed25519) works, without SCRAM-SHA-256-PLUS.
        let end_point = self
            .chain
            .first()
            .and_then(|leaf| ChannelBinding::of_certificate(leaf).ok())
            .map(|binding| binding.as_bytes().to_vec())
            .unwrap_or_default();
        Ok(ServerTls { config: self.config(b"postgresql")?, end_point })
    }

    /// TLS for the web listener.
    ///
    /// # Errors
    /// [`Failure`] if certificate and key do not fit.
    pub fn web(self) -> Result<Arc<ServerConfig>, Failure> {
        self.config(b"http/1.1")
    }

    fn config(self, protocol: &[u8]) -> Result<Arc<ServerConfig>, Failure> {
        let failed = |error: rustls::Error| {
            Failure::new(
                format!("TLS can't be set up: {error}"),
                "check that the private key belongs to the certificate",
            )
        };
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(failed)?
                .with_no_client_auth()
                .with_single_cert(self.chain, self.key)
                .map_err(failed)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(failed)?;
        Ok(Arc::new(config))
    }
}

impl OwnAuthority {
    /// Opens the authority under `DATA/tls`, making it if there is none.
    ///
    /// # Errors
    /// [`Failure`] if the files can't be read or written.
    pub fn open(data: &Path, node: &str) -> Result<Self, Failure> {
        let dir = data.join("tls");
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::file("make", &dir, &error));
            }
            _ => {}
        }
        let (ca_file, key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
        let key = match std::fs::read_to_string(&key_file) {
            Ok(pem) => {
                KeyPair::from_pem(&pem).map_err(|error| crypto("read the node's own authority", &error))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(|error| crypto("make a key", &error))?;
                write_private(&key_file, &key.serialize_pem())?;
                // A certificate without its key is of no use, and must not stay beside a new key.
                let _ = std::fs::remove_file(&ca_file);
                key
            }
            Err(error) => return Err(Failure::file("read", &key_file, &error)),
        };
        let params = authority(node);
        let certificate = match CertificateDer::from_pem_file(&ca_file) {
            Ok(certificate) => certificate,
            Err(_) => {
                let made = params.self_signed(&key).map_err(|error| crypto("sign a certificate", &error))?;
                std::fs::write(&ca_file, made.pem())
                    .map_err(|error| Failure::file("write", &ca_file, &error))?;
                made.der().clone()
            }
        };
        Ok(Self { issuer: Issuer::new(params, key), certificate, ca_file })
    }

    /// Issues a certificate for these names and addresses.
    ///
    /// # Errors
    /// [`Failure`] if one of them is no name.
    pub fn issue(&self, hosts: &[String]) -> Result<Identity, Failure> {
        let failed = |error: rcgen::Error| crypto("issue a certificate", &error);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(hosts).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, hosts.first().map_or("trailgate", String::as_str));
        params.not_before = rcgen::date_time_ymd(VALID_FROM_YEAR, 1, 1);
        params.not_after = rcgen::date_time_ymd(VALID_UNTIL_YEAR, 1, 1);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Identity { chain: vec![leaf.der().clone(), self.certificate.clone()], key })
    }
}

/// The authority's certificate; made from the same values at every start, so that it fits what it signed before.
fn authority(node: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Trailgate node {node}"));
    params.not_before = rcgen::date_time_ymd(VALID_FROM_YEAR, 1, 1);
    params.not_after = rcgen::date_time_ymd(VALID_UNTIL_YEAR, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn crypto(doing: &str, error: &rcgen::Error) -> Failure {
    Failure::new(
        format!("can't {doing}: {error}"),
        "if a file under DATA/tls is damaged, move it away: a new authority is made, and clients need the new ca.pem",
    )
}

fn write_private(path: &Path, content: &str) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| Failure::file("write", path, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn clients_that_know_the_authority_accept_certificates_of_every_start() {
        let temp = tempfile::tempdir().unwrap();
        let first = OwnAuthority::open(temp.path(), "n1").unwrap();
        let anchor = CertificateDer::from_pem_file(&first.ca_file).unwrap();
        let second = OwnAuthority::open(temp.path(), "n1").unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(anchor).unwrap();
        for authority in [first, second] {
            let identity = authority.issue(&["localhost".into(), "127.0.0.1".into()]).unwrap();
            let [leaf, intermediate] = identity.chain.as_slice() else { panic!("a leaf and its authority") };
            let leaf = rustls::server::ParsedCertificate::try_from(leaf).unwrap();
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &leaf,
                &roots,
                std::slice::from_ref(intermediate),
                rustls_pki_types::UnixTime::now(),
                rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all,
            )
            .unwrap();
            let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
            rustls::client::verify_server_name(&leaf, &name).unwrap();
            assert_eq!(identity.postgres().unwrap().end_point.len(), 32);
        }
        let mode = temp.path().join("tls/ca.key").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
