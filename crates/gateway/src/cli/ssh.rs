//! `trailgate ssh …`

use std::path::{Path, PathBuf};

use api::types::{SshCertificate, SshCertify};

use super::args::{Shared, Ssh, SshCert};
use super::{Failure, output};
use crate::client::Client;

/// Carries out `trailgate ssh …`.
///
/// # Errors
/// [`Failure`] if the gateway refuses, or does not answer.
pub async fn run(shared: &Shared, client: &Client, command: Ssh) -> Result<(), Failure> {
    match command {
        Ssh::Cert(asked) => certify(shared, client, &asked).await,
    }
}

async fn certify(shared: &Shared, client: &Client, asked: &SshCert) -> Result<(), Failure> {
    let public_key =
        std::fs::read_to_string(&asked.key).map_err(|error| Failure::file("read", &asked.key, &error))?;
    let request = SshCertify { principal: asked.principal.clone(), public_key, lifetime_s: asked.expires };
    let made: SshCertificate = client.post("/v1/ssh/certificates", &request).await?;
    // A program that takes the certificate from the JSON finds no file beside its key that it did not ask for.
    let path = match &asked.output {
        Some(path) => path.clone(),
        None if shared.json => return output::json(&made),
        None => beside(&asked.key),
    };
    std::fs::write(&path, format!("{}\n", made.certificate.trim_end()))
        .map_err(|error| Failure::file("write", &path, &error))?;
    if shared.json {
        return output::json(&made);
    }
    output::line(&format!("{} is {} until {}", path.display(), made.principal, made.expires_at))
}

/// Where `ssh` looks for a key's certificate: `id_ed25519-cert.pub` beside `id_ed25519.pub`.
fn beside(key: &Path) -> PathBuf {
    let name = key.file_name().unwrap_or_default().to_string_lossy();
    key.with_file_name(format!("{}-cert.pub", name.strip_suffix(".pub").unwrap_or(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_lie_where_ssh_looks_for_them() {
        assert_eq!(beside(Path::new("/k/id_ed25519.pub")), Path::new("/k/id_ed25519-cert.pub"));
        assert_eq!(beside(Path::new("id")), Path::new("id-cert.pub"));
    }
}
