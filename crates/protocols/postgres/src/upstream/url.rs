//! Where a target is and how to log in there, as libpq writes it ("Connection URIs" and "Parameter Key Words" in
//! PostgreSQL's manual).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use identity::scram::ChannelBindingPolicy;
use percent_encoding::percent_decode_str;
use session::{Secret, Target};

use crate::wire::startup::Protocol;

/// Without `connect_timeout`: the time until a host that does not answer is given up.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that a client is kept waiting for one host, in seconds; also for `connect_timeout=0`.
const MAX_CONNECT_TIMEOUT_S: u64 = 60;

const DEFAULT_PORT: u16 = 5432;

/// Most hosts in one URL.
const MAX_HOSTS: usize = 16;

/// Parameters of libpq that mean nothing for a gateway, or only what it does anyway.
const IGNORED: &[&str] = &["sslcompression", "gssdelegation", "sslcertmode", "krbsrvname", "gsslib"];

/// Why a target's URL can't be used. `Display` never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is for something else.
    #[error("the URL does not begin with postgres:// or postgresql://")]
    Scheme,
    /// No host at all.
    #[error("the URL names no host; write postgres://ROLE@HOST:PORT/DATABASE")]
    NoHost,
    /// The gateway has no user of its own that could stand in.
    #[error("the URL names no role; write postgres://ROLE@HOST:PORT/DATABASE")]
    NoUser,
    /// Something is cut or not UTF-8.
    #[error("the URL's {0} can't be read")]
    Malformed(&'static str),
    /// Misspelt, or not supported.
    #[error("the URL's parameter `{0}` is unknown or not supported")]
    UnknownParameter(String),
    /// A value that the parameter can't have.
    #[error("the URL's parameter `{name}` can't be `{value}`: {allowed}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        allowed: &'static str,
    },
    /// A file whose content was not kept with the target.
    #[error(
        "the content of `{0}` is not kept with the target; add the target again so that the file is read"
    )]
    NoMaterial(&'static str),
}

/// libpq's `sslmode`, in rising order of what is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Plain, and TLS if the server refuses that.
    Allow,
    /// TLS, and plain if that fails.
    #[default]
    Prefer,
    /// TLS; the certificate is checked only if there is a root certificate.
    Require,
    /// TLS with a certificate that a given root has signed.
    VerifyCa,
    /// And that is for the host's name.
    VerifyFull,
}

/// Where the roots come from that a server's certificate is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// None given.
    #[default]
    None,
    /// Those of the operating system (`sslrootcert=system`).
    System,
    /// These, in PEM.
    Pem(Secret),
}

/// Whether the target has to be a primary, and the like (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionAttributes {
    /// Whatever answers.
    #[default]
    Any,
    /// Sessions can write.
    ReadWrite,
    /// Sessions can't write.
    ReadOnly,
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
}

/// TCP keep-alive as libpq's parameters say; `None` leaves the system's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether there are any.
    pub on: bool,
    /// Silence before the first.
    pub idle: Option<Duration>,
    /// Between two.
    pub interval: Option<Duration>,
    /// Unanswered ones until the connection is dead.
    pub count: Option<u32>,
    /// How long sent data may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name or an address, and perhaps the address to use for it.
    Tcp {
        /// As written: what a certificate is checked for.
        name: String,
        /// `hostaddr`: saves the look-up.
        address: Option<IpAddr>,
        /// Its port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { name, port, .. } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp { name, port, .. } => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A target's URL and secrets, understood. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetUrl {
    /// Servers in the order in which to try them; at least one.
    pub hosts: Vec<Host>,
    /// The role to log in as.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// The database, where the client names none; otherwise the one that has the role's name.
    pub database: Option<String>,
    /// Whether TLS, and how much is checked.
    pub sslmode: SslMode,
    /// TLS from the first byte on, without an SSLRequest.
    pub direct_tls: bool,
    /// Whether to name the host in the TLS handshake.
    pub sni: bool,
    /// Where to find roots.
    pub roots: Roots,
    /// The gateway's own certificate chain and key for this target, in PEM.
    pub client_certificate: Option<(Secret, Secret)>,
    /// Whether TLS 1.2 is still good enough, and whether 1.3 is allowed.
    pub tls_versions: (bool, bool),
    /// Binding of SCRAM to the TLS channel.
    pub channel_binding: ChannelBindingPolicy,
    /// Methods by which the target may ask for the login (`require_auth`); `None` for any.
    pub methods: Option<Vec<String>>,
    /// How long one host may take until it is ready.
    pub connect_timeout: Duration,
    /// The name of the application, where the client gives none.
    pub application_name: Option<String>,
    /// Options for the server, before the client's own.
    pub options: Option<String>,
    /// Keep-alive of the TCP connection.
    pub keepalives: Keepalives,
    /// The newest version of the protocol to ask for.
    pub protocol: Protocol,
    /// Which of several hosts will do.
    pub attributes: SessionAttributes,
}

impl TargetUrl {
    /// Reads a target's URL and what is kept with it.
    ///
    /// # Errors
    /// [`UrlError`]: one sentence that names the part at fault.
    pub fn of(target: &Target) -> Result<Self, UrlError> {
        Self::parse(&target.url, &target.material)
    }

    /// Reads a URL; `material` holds secrets and files by the name of the parameter.
    ///
    /// # Errors
    /// [`UrlError`]: one sentence that names the part at fault.
    pub fn parse(url: &str, material: &BTreeMap<String, Secret>) -> Result<Self, UrlError> {
        let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
        let rest = rest.ok_or(UrlError::Scheme)?;
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = before_query.split_once('/').unwrap_or((before_query, ""));
        let mut raw = Raw::default();
        let hosts = match authority.split_once('@') {
            Some((user, hosts)) => {
                let (user, password) = user.split_once(':').map_or((user, None), |(u, p)| (u, Some(p)));
                raw.put("user", user)?;
                if let Some(password) = password {
                    raw.put("password", password)?;
                }
                hosts
            }
            None => authority,
        };
        raw.authority(hosts)?;
        raw.put("dbname", path)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(UrlError::Malformed("query"))?;
            // JDBC's way to write it, which libpq understands too.
            if (name, value) == ("ssl", "true") {
                raw.put("sslmode", "require")?;
            } else {
                raw.put(&decode(name, "query")?, value)?;
            }
        }
        raw.build(material)
    }
}

fn decode(text: &str, part: &'static str) -> Result<String, UrlError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| UrlError::Malformed(part))?;
    if text.contains('\0') { Err(UrlError::Malformed(part)) } else { Ok(text.into_owned()) }
}

/// Parameters as text, the later one winning.
#[derive(Default)]
struct Raw(BTreeMap<String, String>);

impl Raw {
    fn put(&mut self, name: &str, value: &str) -> Result<(), UrlError> {
        if !value.is_empty() || name == "password" {
            self.0.insert(name.to_owned(), decode(value, "value")?);
        }
        Ok(())
    }

    /// `host1:port1,host2,[::1]:port3`: as the parameters `host` and `port` have it.
    fn authority(&mut self, text: &str) -> Result<(), UrlError> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for part in text.split(',') {
            let (host, port) = match part.strip_prefix('[') {
                Some(rest) => {
                    let (host, after) = rest.split_once(']').ok_or(UrlError::Malformed("IPv6 address"))?;
                    (host, after.strip_prefix(':').unwrap_or(after))
                }
                None => part.split_once(':').unwrap_or((part, "")),
            };
            hosts.push(host);
            ports.push(port);
        }
        self.put("host", &hosts.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            self.put("port", &ports.join(","))?;
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    fn choose<T: Copy>(
        &mut self,
        name: &'static str,
        allowed: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, UrlError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let found = choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice);
        found.map(Some).ok_or(UrlError::Value { name, value, allowed })
    }

    fn number(&mut self, name: &'static str) -> Result<Option<i64>, UrlError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(UrlError::Value { name, value, allowed: "it is a whole number" }),
        }
    }

    /// A positive number, where zero and less leave the system's value.
    fn positive(&mut self, name: &'static str) -> Result<Option<u32>, UrlError> {
        Ok(self.number(name)?.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0))
    }

    fn hosts(&mut self) -> Result<Vec<Host>, UrlError> {
        let names = self.take("host").unwrap_or_default();
        let addresses = self.take("hostaddr").unwrap_or_default();
        let ports = self.take("port").unwrap_or_default();
        if names.is_empty() && addresses.is_empty() {
            return Err(UrlError::NoHost);
        }
        let names: Vec<&str> = names.split(',').collect();
        let addresses: Vec<&str> = addresses.split(',').collect();
        let ports: Vec<&str> = ports.split(',').collect();
        let count = names.len().max(addresses.len());
        if count > MAX_HOSTS || (ports.len() > 1 && ports.len() != count) {
            return Err(UrlError::Malformed("list of hosts and ports"));
        }
        if (names.len() > 1 || !addresses.iter().all(|a| a.is_empty()))
            && names.len() != count
            && names != [""]
        {
            return Err(UrlError::Malformed("list of hosts and addresses"));
        }
        (0..count)
            .map(|place| {
                let port = if ports.len() == 1 { ports.first() } else { ports.get(place) };
                let port = match port.copied().unwrap_or_default() {
                    "" => DEFAULT_PORT,
                    text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| UrlError::Value {
                        name: "port",
                        value: text.to_owned(),
                        allowed: "a port is 1 to 65535",
                    })?,
                };
                let address = match addresses.get(place).copied().unwrap_or_default() {
                    "" => None,
                    text => Some(text.parse::<IpAddr>().map_err(|_| UrlError::Value {
                        name: "hostaddr",
                        value: text.to_owned(),
                        allowed: "it is an IP address",
                    })?),
                };
                let name = names.get(place).copied().unwrap_or_default();
                match (name, address) {
                    ("", None) => Err(UrlError::NoHost),
                    ("", Some(address)) => {
                        Ok(Host::Tcp { name: address.to_string(), address: Some(address), port })
                    }
                    (name, None) if name.starts_with(['/', '@']) => {
                        Ok(Host::Unix(PathBuf::from(format!("{name}/.s.PGSQL.{port}"))))
                    }
                    (name, address) => Ok(Host::Tcp { name: name.to_owned(), address, port }),
                }
            })
            .collect()
    }

    fn roots(&mut self, material: &BTreeMap<String, Secret>) -> Result<Roots, UrlError> {
        let named = self.take("sslrootcert");
        match (material.get("sslrootcert"), named.as_deref()) {
            (Some(kept), _) if kept.expose() == b"system" => Ok(Roots::System),
            (Some(kept), _) => Ok(Roots::Pem(kept.clone())),
            (None, Some("system")) => Ok(Roots::System),
            (None, Some(_)) => Err(UrlError::NoMaterial("sslrootcert")),
            (None, None) => Ok(Roots::None),
        }
    }

    fn client_certificate(
        &mut self,
        material: &BTreeMap<String, Secret>,
    ) -> Result<Option<(Secret, Secret)>, UrlError> {
        let named = (self.take("sslcert").is_some(), self.take("sslkey").is_some());
        match (material.get("sslcert"), material.get("sslkey")) {
            (Some(chain), Some(key)) => Ok(Some((chain.clone(), key.clone()))),
            (Some(_), None) => Err(UrlError::NoMaterial("sslkey")),
            (None, Some(_)) => Err(UrlError::NoMaterial("sslcert")),
            (None, None) if named.0 => Err(UrlError::NoMaterial("sslcert")),
            (None, None) if named.1 => Err(UrlError::NoMaterial("sslkey")),
            (None, None) => Ok(None),
        }
    }

    fn sslmode(&mut self, roots: &Roots) -> Result<SslMode, UrlError> {
        let allowed = "it is disable, allow, prefer, require, verify-ca or verify-full";
        let modes = [
            ("disable", SslMode::Disable),
            ("allow", SslMode::Allow),
            ("prefer", SslMode::Prefer),
            ("require", SslMode::Require),
            ("verify-ca", SslMode::VerifyCa),
            ("verify-full", SslMode::VerifyFull),
        ];
        let value = self.0.get("sslmode").cloned().unwrap_or_default();
        let mode = self.choose("sslmode", allowed, &modes)?;
        // Anybody can have a certificate that the system trusts: without the name it proves nothing.
        if *roots == Roots::System {
            if mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
                let allowed = "with sslrootcert=system only verify-full is safe";
                return Err(UrlError::Value { name: "sslmode", value, allowed });
            }
            return Ok(SslMode::VerifyFull);
        }
        let mode = mode.unwrap_or_default();
        if mode >= SslMode::VerifyCa && *roots == Roots::None {
            return Err(UrlError::Value {
                name: "sslmode",
                value,
                allowed: "it needs a root certificate: give sslrootcert=FILE, or sslrootcert=system",
            });
        }
        Ok(mode)
    }

    fn tls_versions(&mut self) -> Result<(bool, bool), UrlError> {
        let allowed = "it is TLSv1.2 or TLSv1.3";
        let versions = [("TLSv1", 2), ("TLSv1.1", 2), ("TLSv1.2", 2), ("TLSv1.3", 3)];
        let least = self.choose("ssl_min_protocol_version", allowed, &versions)?.unwrap_or(2);
        let most = self.choose("ssl_max_protocol_version", allowed, versions.get(2..).unwrap_or_default())?;
        let most = most.unwrap_or(3);
        if least > most {
            let value = "TLSv1.2".to_owned();
            let allowed = "it is below ssl_min_protocol_version";
            return Err(UrlError::Value { name: "ssl_max_protocol_version", value, allowed });
        }
        Ok((least == 2, most == 3))
    }

    fn methods(&mut self) -> Result<Option<Vec<String>>, UrlError> {
        const KNOWN: [&str; 6] = ["none", "password", "md5", "scram-sha-256", "gss", "sspi"];
        let Some(value) = self.take("require_auth") else { return Ok(None) };
        let negated = value.split(',').all(|method| method.starts_with('!'));
        let named: Vec<&str> =
            value.split(',').map(|m| if negated { m.trim_start_matches('!') } else { m }).collect();
        if !named.iter().all(|method| KNOWN.contains(method)) {
            let allowed =
                "it is a list of none, password, md5 and scram-sha-256, all of them or none with a `!`";
            return Err(UrlError::Value { name: "require_auth", value, allowed });
        }
        let kept = KNOWN.into_iter().filter(|method| named.contains(method) != negated);
        Ok(Some(kept.map(str::to_owned).collect()))
    }

    fn keepalives(&mut self) -> Result<Keepalives, UrlError> {
        let seconds = |count: Option<u32>| count.map(|count| Duration::from_secs(count.into()));
        Ok(Keepalives {
            on: self.number("keepalives")? != Some(0),
            idle: seconds(self.positive("keepalives_idle")?),
            interval: seconds(self.positive("keepalives_interval")?),
            count: self.positive("keepalives_count")?,
            user_timeout: self.positive("tcp_user_timeout")?.map(|ms| Duration::from_millis(ms.into())),
        })
    }

    fn protocol(&mut self) -> Result<Protocol, UrlError> {
        let allowed = "it is 3.0, 3.2 or latest";
        let versions = [("3.0", Protocol::V3_0), ("3.2", Protocol::V3_2), ("latest", Protocol::V3_2)];
        let least = self.choose("min_protocol_version", allowed, &versions)?;
        let most = self.choose("max_protocol_version", allowed, &versions)?;
        Ok(most.or(least).unwrap_or(Protocol::V3_0))
    }

    fn connect_timeout(&mut self) -> Result<Duration, UrlError> {
        let seconds = match self.number("connect_timeout")? {
            None => DEFAULT_CONNECT_TIMEOUT.as_secs(),
            // libpq waits without end then, which a client of ours should not have to.
            Some(seconds) if seconds <= 0 => MAX_CONNECT_TIMEOUT_S,
            Some(seconds) => seconds.unsigned_abs().min(MAX_CONNECT_TIMEOUT_S),
        };
        Ok(Duration::from_secs(seconds))
    }

    fn build(mut self, material: &BTreeMap<String, Secret>) -> Result<TargetUrl, UrlError> {
        let roots = self.roots(material)?;
        let sslmode = self.sslmode(&roots)?;
        let negotiation = "it is postgres or direct";
        let direct_tls = self
            .choose("sslnegotiation", negotiation, &[("postgres", false), ("direct", true)])?
            .unwrap_or(false);
        if direct_tls && sslmode < SslMode::Require {
            let allowed = "it needs sslmode=require or more";
            return Err(UrlError::Value { name: "sslnegotiation", value: "direct".to_owned(), allowed });
        }
        let gss = [("disable", ()), ("prefer", ())];
        self.choose("gssencmode", "the gateway does not speak GSSAPI: it is disable or prefer", &gss)?;
        let balance = [("disable", ())];
        self.choose("load_balance_hosts", "hosts are tried in order: it is disable", &balance)?;
        let policies = [
            ("disable", ChannelBindingPolicy::Disable),
            ("prefer", ChannelBindingPolicy::Prefer),
            ("require", ChannelBindingPolicy::Require),
        ];
        let channel_binding =
            self.choose("channel_binding", "it is disable, prefer or require", &policies)?;
        let attributes = [
            ("any", SessionAttributes::Any),
            ("read-write", SessionAttributes::ReadWrite),
            ("read-only", SessionAttributes::ReadOnly),
            ("primary", SessionAttributes::Primary),
            ("standby", SessionAttributes::Standby),
        ];
        let allowed = "it is any, read-write, read-only, primary or standby";
        let attributes = self.choose("target_session_attrs", allowed, &attributes)?.unwrap_or_default();
        let fallback_application_name = self.take("fallback_application_name");
        let password = self.take("password").map(|password| Secret::new(password.into_bytes()));
        let mut options = self.take("options");
        if let Some(encoding) = self.take("client_encoding").filter(|encoding| encoding != "auto") {
            options = Some(format!("{} -c client_encoding={encoding}", options.unwrap_or_default()));
        }
        let url = TargetUrl {
            hosts: self.hosts()?,
            user: self.take("user").ok_or(UrlError::NoUser)?,
            password: material
                .get("password")
                .cloned()
                .or(password)
                .filter(|secret| !secret.expose().is_empty()),
            database: self.take("dbname"),
            sslmode,
            direct_tls,
            sni: self.number("sslsni")? != Some(0),
            client_certificate: self.client_certificate(material)?,
            roots,
            tls_versions: self.tls_versions()?,
            channel_binding: channel_binding.unwrap_or_default(),
            methods: self.methods()?,
            connect_timeout: self.connect_timeout()?,
            application_name: self.take("application_name").or(fallback_application_name),
            options,
            keepalives: self.keepalives()?,
            protocol: self.protocol()?,
            attributes,
        };
        match self.0.into_keys().find(|name| !IGNORED.contains(&name.as_str())) {
            Some(unknown) => Err(UrlError::UnknownParameter(unknown)),
            None => Ok(url),
        }
    }
}

#[cfg(test)]
mod tests;
