//! What a settings file can say that makes no sense, and what follows from what it leaves out.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

use store::KeySource;
use vocabulary::Name;

use super::{PostgresAuth, Settings, SettingsError, TlsMode, WebTlsMode};

/// A listener as it will be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
    /// How it is protected.
    pub protection: Protection,
}

/// Whether a listener speaks TLS, everything decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// No TLS.
    Plain,
    /// TLS for clients that ask for it.
    Offered,
    /// TLS or nothing.
    Required,
}

impl Settings {
    /// Whether the settings make sense by themselves.
    ///
    /// # Errors
    /// [`SettingsError::Value`] names the first setting that does not.
    pub fn check(&self) -> Result<(), SettingsError> {
        if let Some(name) = &self.node.name {
            name.parse::<Name>().map_err(|error| SettingsError::value("node.name", error.to_string()))?;
        }
        if let Some(key) = &self.node.key {
            key.parse::<KeySource>().map_err(|error| SettingsError::value("node.key", error.to_string()))?;
        }
        for host in &self.node.hosts {
            rustls_pki_types::ServerName::try_from(host.as_str()).map_err(|_| {
                SettingsError::value("node.hosts", format!("`{host}` is no host name and no address"))
            })?;
        }
        self.postgres_listener()?;
        self.web_listener()?;
        pair("postgres", self.postgres.cert.as_deref(), self.postgres.key.as_deref())?;
        pair("web", self.web.cert.as_deref(), self.web.key.as_deref())?;
        within("postgres.pre_auth_deadline_s", self.postgres.pre_auth_deadline_s, 1..=600)?;
        within("journal.segment_mib", self.journal.segment_mib, 1..=1024)?;
        within("limits.connections", self.limits.connections.into(), 1..=1_000_000)?;
        within("limits.api_connections", self.limits.api_connections.into(), 1..=100_000)?;
        within("workers.threads", self.workers.threads.unwrap_or(1).into(), 1..=1024)?;
        within("workers.shutdown_grace_s", self.workers.shutdown_grace_s, 0..=3600)
    }

    /// Where the node key is.
    #[must_use]
    pub fn key_source(&self, data: &Path) -> KeySource {
        let elsewhere = self.node.key.as_deref().and_then(|text| text.parse().ok());
        elsewhere.unwrap_or_else(|| KeySource::Own(data.join("node.key")))
    }

    /// The listener for PostgreSQL clients.
    ///
    /// # Errors
    /// [`SettingsError::Value`] if it would let tokens or commands cross a network in the clear unasked.
    pub fn postgres_listener(&self) -> Result<Listener, SettingsError> {
        let section = &self.postgres;
        let address = address("postgres.listen", &section.listen)?;
        let local = address.ip().is_loopback() || section.allow_plaintext;
        let protection = match (section.tls, local) {
            (Some(TlsMode::Required), _) | (None, false) => Protection::Required,
            (Some(TlsMode::Offered), true) | (None, true) => Protection::Offered,
            (Some(TlsMode::Off), true) => Protection::Plain,
            (Some(TlsMode::Off | TlsMode::Offered), false) => {
                return Err(exposed("postgres", address.ip()));
            }
        };
        if section.auth == PostgresAuth::Cleartext && protection != Protection::Required {
            return Err(SettingsError::value(
                "postgres.auth",
                "\"cleartext\" sends the token itself, so it needs postgres.tls = \"required\"",
            ));
        }
        Ok(Listener { address, protection })
    }

    /// The listener for the API.
    ///
    /// # Errors
    /// [`SettingsError::Value`] if it would let tokens cross a network in the clear unasked.
    pub fn web_listener(&self) -> Result<Listener, SettingsError> {
        let section = &self.web;
        let address = address("web.listen", &section.listen)?;
        let local = address.ip().is_loopback() || section.allow_plaintext;
        let protection = match (section.tls, local) {
            (Some(WebTlsMode::Required), _) | (None, false) => Protection::Required,
            (Some(WebTlsMode::Off) | None, true) => Protection::Plain,
            (Some(WebTlsMode::Off), false) => return Err(exposed("web", address.ip())),
        };
        Ok(Listener { address, protection })
    }
}

fn address(key: &str, text: &str) -> Result<SocketAddr, SettingsError> {
    let spelled = text.replacen("localhost:", "127.0.0.1:", 1);
    spelled.parse().map_err(|_| {
        SettingsError::value(
            key,
            format!("`{text}` is not an address and a port; write 127.0.0.1:15432 or [::]:15432"),
        )
    })
}

fn exposed(section: &str, ip: IpAddr) -> SettingsError {
    SettingsError::value(
        &format!("{section}.tls"),
        format!(
            "{ip} can be reached from other machines, so it needs tls = \"required\", or allow_plaintext = true if \
             something else protects that network"
        ),
    )
}

fn pair(section: &str, cert: Option<&Path>, key: Option<&Path>) -> Result<(), SettingsError> {
    match (cert, key) {
        (Some(_), None) => Err(SettingsError::value(
            &format!("{section}.key"),
            "a certificate needs its private key as well",
        )),
        (None, Some(_)) => Err(SettingsError::value(
            &format!("{section}.cert"),
            "a private key needs its certificate as well",
        )),
        _ => Ok(()),
    }
}

fn within(key: &str, value: u64, range: RangeInclusive<u64>) -> Result<(), SettingsError> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(SettingsError::value(
            key,
            format!("{value} is not between {} and {}", range.start(), range.end()),
        ))
    }
}
