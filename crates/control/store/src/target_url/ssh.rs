//! Reading `ssh://LOGIN[:PASSWORD]@HOST[:PORT]?key=file:PATH&host_key=file:PATH`.
//!
//! The address is that of the `ssh` program (draft-ietf-secsh-scp-sftp-ssh-uri, section 3.1); what stands in the query
//! is the gateway's: its own credential for the target, and whom it takes for the target.

use std::collections::BTreeMap;

use identity::{SshKeyError, SshPublicKey};
use vocabulary::TargetKind;

use super::parse::{self, Parts, TargetUrlError};
use super::{TargetUrl, parameter};

/// Every parameter that is honoured, for the message about one that is not.
const KNOWN: &str = "key, key_cert, host_key, host_ca, password, connect_timeout, shell_integration";

/// Those whose value is a secret or a file: the private key and the certificate that the gateway logs in with, the
/// target's host keys, the authorities that certify them.
pub(super) const MATERIAL: [&str; 5] = ["password", "key", "key_cert", "host_key", "host_ca"];

pub(super) fn parse(rest: &str) -> Result<TargetUrl, TargetUrlError> {
    let mut parts = Parts::default();
    let path = parse::address(rest, &mut parts)?;
    if path.is_some_and(|path| !path.is_empty()) {
        return Err(TargetUrlError::SshPath);
    }
    let mut parts = parts.0;
    let user = parts.remove("user").ok_or(TargetUrlError::SshNoUser)?;
    let user = parse::name("user", user)?;
    let host = parse::check_host(parts.remove("host").ok_or(TargetUrlError::SshNoHost)?)?;
    if host.starts_with('/') {
        return Err(TargetUrlError::BadHost);
    }
    let port = parts.remove("port").map(|port| parse::check_port(&port)).transpose()?;
    let mut material = BTreeMap::new();
    for name in MATERIAL {
        if let Some(value) = parts.remove(name) {
            material.insert(name.to_owned(), parameter::material(name, &value)?);
        }
    }
    for (name, value) in &parts {
        match name.as_str() {
            "connect_timeout" => parameter::check(name, value)?,
            "shell_integration" if matches!(value.as_str(), "on" | "off") => {}
            "shell_integration" => {
                return Err(TargetUrlError::BadValue { parameter: name.clone(), allowed: "on or off" });
            }
            _ => {
                return Err(TargetUrlError::UnknownSshParameter {
                    name: name.chars().take(40).collect(),
                    known: KNOWN,
                });
            }
        }
    }
    if material.contains_key("key_cert") && !material.contains_key("key") {
        return Err(TargetUrlError::CertWithoutKey);
    }
    Ok(TargetUrl { kind: TargetKind::Ssh, user, host, port, database: None, parameters: parts, material })
}

/// Checks content that was read, or written out, of a parameter other than the password.
pub(super) fn check_material(name: &str, content: &[u8]) -> Result<(), TargetUrlError> {
    let text = std::str::from_utf8(content).map_err(|_| TargetUrlError::NoSshKey(name.to_owned()))?;
    if name == "key" {
        let private = text.contains("-----BEGIN") && text.contains("PRIVATE KEY-----");
        return if private { Ok(()) } else { Err(TargetUrlError::NoPrivateKey) };
    }
    let mut found = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // As in `known_hosts`, names may stand before the key; the target's address is the URL's, so they say nothing.
        let words: Vec<&str> = line.split_whitespace().collect();
        let bad = || TargetUrlError::NoSshKey(name.to_owned());
        let read =
            (0..words.len()).find_map(|from| match words.get(from..)?.join(" ").parse::<SshPublicKey>() {
                Ok(_) => Some(name != "key_cert"),
                Err(SshKeyError::Certificate) => Some(name == "key_cert"),
                Err(_) => None,
            });
        if read != Some(true) {
            return Err(bad());
        }
        found = true;
    }
    if found { Ok(()) } else { Err(TargetUrlError::Empty(name.to_owned())) }
}
