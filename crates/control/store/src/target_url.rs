//! A target's URL as its client library writes it, taken apart into what may be shown and what may not.
//!
//! For PostgreSQL it follows libpq's connection URIs, for SSH those of the `ssh` program. What the gateway does not honour is refused rather than ignored: a
//! `sslmode` that is dropped silently would be a hole.
//!
//! Secrets may be written out or be references: `env:NAME` (the gateway's own environment, looked up when it
//! starts and at every change), `file:PATH` (read once by whoever adds the target, then sealed), `text:…` (the
//! rest as it stands, for a secret that happens to begin like a reference).
//!
//! *Invariant:* no error repeats any part of the URL but the name of a parameter that stands where no secret
//! can be.

mod parameter;
mod parse;
mod ssh;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use session::Secret;
use vocabulary::TargetKind;
use zeroize::Zeroizing;

pub use parse::TargetUrlError;

/// Largest secret or certificate file that is read, in bytes.
pub const MAX_MATERIAL_LEN: usize = 256 * 1024;

/// What stays as it is in a printed URL; everything else is percent-encoded.
const PRINTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// As [`PRINTED`], and readable in a query: nothing there ends or splits a value.
const PRINTED_VALUE: &AsciiSet = &PRINTED.remove(b'/').remove(b':').remove(b',');

/// A piece of material: a password, a key, a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Material {
    /// Its content.
    Content(Secret),
    /// `env:NAME`: an environment variable of the gateway.
    Env(String),
    /// `file:PATH`: not read yet.
    File(PathBuf),
}

/// A target's URL, taken apart. `Debug` and `Display` show it without secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl {
    kind: TargetKind,
    user: String,
    /// A name, an address, or the folder of a Unix socket (begins with `/`).
    host: String,
    port: Option<u16>,
    database: Option<String>,
    /// Without those that are material; sorted.
    parameters: BTreeMap<String, String>,
    material: BTreeMap<String, Material>,
}

impl TargetUrl {
    /// The protocol.
    #[must_use]
    pub const fn kind(&self) -> TargetKind {
        self.kind
    }

    /// The role that the gateway logs in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Its secrets and files by parameter: `password`, `sslrootcert`, `sslcert`, `sslkey`.
    #[must_use]
    pub const fn material(&self) -> &BTreeMap<String, Material> {
        &self.material
    }

    /// The name of the first parameter whose file was not read yet.
    #[must_use]
    pub fn unread(&self) -> Option<&str> {
        self.material
            .iter()
            .find(|(_, material)| matches!(material, Material::File(_)))
            .map(|(name, _)| name.as_str())
    }

    /// Reads every `file:` with `read`, so that the content can be sealed. Whoever typed the path calls this:
    /// the command line in its own folder, never the gateway on behalf of somebody remote.
    ///
    /// One line break at the end of a password's file is cut off, as editors add one.
    ///
    /// # Errors
    /// [`TargetUrlError::File`] names the parameter and the path.
    pub fn read_files(
        &mut self,
        read: impl Fn(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<(), TargetUrlError> {
        for (name, material) in &mut self.material {
            let Material::File(path) = material else { continue };
            let failed =
                |source| TargetUrlError::File { parameter: name.clone(), path: path.clone(), source };
            let mut content = Zeroizing::new(read(path).map_err(failed)?);
            if name == "password" {
                let cut =
                    content.strip_suffix(b"\r\n").or_else(|| content.strip_suffix(b"\n")).map(<[u8]>::len);
                content.truncate(cut.unwrap_or(usize::MAX));
            }
            parameter::check_material(name, &content)?;
            *material = Material::Content(Secret::new(content.to_vec()));
        }
        Ok(())
    }

    /// The URL with every secret in it, for sending it to the gateway over the control socket; parses back to
    /// the same. Wiped when dropped.
    ///
    /// # Errors
    /// [`TargetUrlError::Bytes`] if a secret is not UTF-8: a URL can't carry it.
    pub fn expose(&self) -> Result<Zeroizing<String>, TargetUrlError> {
        let mut text = Zeroizing::new(self.to_string());
        for (name, material) in &self.material {
            let value = match material {
                Material::Env(variable) => Zeroizing::new(format!("env:{variable}")),
                Material::File(path) => Zeroizing::new(format!("file:{}", path.display())),
                Material::Content(secret) => {
                    let content = std::str::from_utf8(secret.expose())
                        .map_err(|_| TargetUrlError::Bytes(name.clone()))?;
                    Zeroizing::new(format!("text:{content}"))
                }
            };
            let joint = if text.contains('?') { '&' } else { '?' };
            text.push(joint);
            text.push_str(name);
            text.push('=');
            text.extend(utf8_percent_encode(&value, PRINTED));
        }
        Ok(text)
    }
}

impl FromStr for TargetUrl {
    type Err = TargetUrlError;
    fn from_str(text: &str) -> Result<Self, TargetUrlError> {
        parse::parse(text)
    }
}

/// The URL without secrets: `postgres://USER@HOST[:PORT][/DATABASE][?NAME=VALUE…]`, parameters sorted. A Unix
/// socket's folder comes as `?host=/FOLDER`, with nothing between `@` and `/`.
impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}@", self.kind, utf8_percent_encode(&self.user, PRINTED))?;
        let socket = self.host.starts_with('/');
        if !socket && self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else if !socket {
            write!(f, "{}", utf8_percent_encode(&self.host, PRINTED))?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match &self.database {
            Some(database) => write!(f, "/{}", utf8_percent_encode(database, PRINTED))?,
            None if socket => f.write_str("/")?,
            None => {}
        }
        let host = socket.then_some(("host", self.host.as_str()));
        let others = self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (place, (name, value)) in host.into_iter().chain(others).enumerate() {
            f.write_str(if place == 0 { "?" } else { "&" })?;
            write!(f, "{name}={}", utf8_percent_encode(value, PRINTED_VALUE))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetUrl({self})")
    }
}
