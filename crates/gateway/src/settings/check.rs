//! What a settings file can say that makes no sense, and what follows from what it leaves out.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

use store::KeySource;
use vocabulary::Name;

use super::{PostgresAuth, SealerRun, Settings, SettingsError, TlsMode, WebTlsMode, WebhookFormat};

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
        self.retention.to_trail()?;
        self.retention.interval()?;
        if let Some(recipient) = &self.vault.recipient {
            crate::keys::AgeRecipient::parse(recipient)
                .map_err(|failure| SettingsError::value("vault.recipient", failure.what))?;
        }
        if self.vault.identity.is_some() && self.vault.recipient.is_none() {
            return Err(SettingsError::value("vault.identity", "it needs a vault.recipient".to_owned()));
        }
        self.postgres_listener()?;
        self.web_listener()?;
        self.ssh_listener()?;
        for pattern in &self.ssh.accept_env {
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(SettingsError::value(
                    "ssh.accept_env",
                    format!("`{pattern}` is no name of an environment variable, nor one with `*` at its end"),
                ));
            }
        }
        within("ssh.pre_auth_deadline_s", self.ssh.pre_auth_deadline_s, 1..=600)?;
        within("ssh.keep_output_kib", self.ssh.keep_output_kib, 0..=1_048_576)?;
        within("ssh.keep_input_kib", self.ssh.keep_input_kib, 0..=1_048_576)?;
        within("ssh.keep_recording_mib", self.ssh.keep_recording_mib, 0..=4096)?;
        within("ssh.keepalive_s", self.ssh.keepalive_s, 0..=86_400)?;
        within("ssh.reuse_s", self.ssh.reuse_s, 0..=3600)?;
        pair("postgres", self.postgres.cert.as_deref(), self.postgres.key.as_deref())?;
        pair("web", self.web.cert.as_deref(), self.web.key.as_deref())?;
        within("postgres.pre_auth_deadline_s", self.postgres.pre_auth_deadline_s, 1..=600)?;
        within("journal.segment_mib", self.journal.segment_mib, 1..=1024)?;
        if self.trail_log.url.is_some() && self.trail_log.nodes.is_some() {
            return Err(SettingsError::value(
                "trail_log.nodes",
                "a node whose checkpoints go into another's trail log (trail_log.url) keeps none for others",
            ));
        }
        within("sealer.heartbeat_s", self.sealer.heartbeat_s, 1..=86_400)?;
        within("limits.connections", self.limits.connections.into(), 1..=1_000_000)?;
        within("limits.api_connections", self.limits.api_connections.into(), 1..=100_000)?;
        within("workers.threads", self.workers.threads.unwrap_or(1).into(), 1..=1024)?;
        within("workers.shutdown_grace_s", self.workers.shutdown_grace_s, 0..=3600)?;
        within("review.hold_for_s", self.review.hold_for_s, 1..=3600)?;
        within("review.hold_for_in_transaction_s", self.review.hold_for_in_transaction_s, 1..=3600)?;
        within("review.open_for_s", self.review.open_for_s, 1..=604_800)?;
        within("review.grant_for_s", self.review.grant_for_s, 1..=86_400)?;
        if let Some(address) = &self.review.address
            && !["http://", "https://"].iter().any(|scheme| address.starts_with(scheme))
        {
            return Err(SettingsError::value(
                "review.address",
                "write it as https://gateway.example".to_owned(),
            ));
        }
        for (name, webhook) in &self.review.webhook {
            if webhook.format == WebhookFormat::Json && webhook.secret.is_none() {
                return Err(SettingsError::value(
                    &format!("review.webhook.{name}.secret"),
                    "a webhook of the format json is signed, so it needs a secret: env:NAME or file:PATH"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Where the node key is.
    #[must_use]
    pub fn key_source(&self, data: &Path) -> KeySource {
        let elsewhere = self.node.key.as_deref().and_then(|text| text.parse().ok());
        elsewhere.unwrap_or_else(|| KeySource::Own(data.join("node.key")))
    }

    /// Whether a process of its own seals.
    #[must_use]
    pub fn sealed_elsewhere(&self) -> bool {
        self.sealer.run == SealerRun::External
    }

    /// Whether anybody may fetch the log.
    #[must_use]
    pub fn log_is_public(&self) -> bool {
        let on_loopback = || self.web_listener().is_ok_and(|listener| listener.address.ip().is_loopback());
        self.web.public_log.unwrap_or_else(on_loopback)
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

    /// The listener for SSH clients. The protocol protects itself, so it may stand on any address.
    ///
    /// # Errors
    /// [`SettingsError::Value`] if it is no address.
    pub fn ssh_listener(&self) -> Result<Listener, SettingsError> {
        let address = address("ssh.listen", &self.ssh.listen)?;
        Ok(Listener { address, protection: Protection::Plain })
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
