//! Reading a connection URI (PostgreSQL documentation, section 34.1.1.2).

use std::collections::BTreeMap;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use vocabulary::TargetKind;

use super::{TargetUrl, parameter, ssh};

/// Longest URL, in bytes: certificates may be written out in it.
const MAX_URL_LEN: usize = 1024 * 1024;

/// Longest user or database name, in bytes: PostgreSQL cuts at 63, its relatives allow more.
const MAX_NAME_LEN: usize = 255;

/// Why a text is no target URL. Never repeats a value: it may be a password in the wrong place.
#[derive(Debug, thiserror::Error)]
pub enum TargetUrlError {
    /// Another scheme, or none.
    #[error(
        "a target's URL begins with `postgres://` (or `postgresql://`) or `ssh://`: postgres://USER:PASSWORD@HOST:5432/DATABASE, ssh://LOGIN@HOST?key=file:PATH&host_key=file:PATH"
    )]
    Scheme,
    /// Longer than a megabyte.
    #[error("the URL is longer than {MAX_URL_LEN} bytes; refer to certificates with `file:PATH`")]
    Long,
    /// An `@` behind the address.
    #[error(
        "an `@` stands where the address is over already: in the password write `@` as %40, `/` as %2F, `?` as %3F, `#` as %23"
    )]
    StrayAt,
    /// A fragment.
    #[error("`#` has no meaning in a target's URL; in the password write it as %23")]
    Fragment,
    /// Broken percent-encoding.
    #[error(
        "a `%` is not followed by two hexadecimal digits, or they make no UTF-8 text; write `%` itself as %25"
    )]
    Percent,
    /// A zero byte.
    #[error("a zero byte can't be part of a target's URL or password")]
    ZeroByte,
    /// No user.
    #[error("the URL names no user; the gateway logs in as it: postgres://USER:PASSWORD@HOST/DATABASE")]
    NoUser,
    /// No host.
    #[error("the URL names no host; for a Unix socket give its folder: ?host=/run/postgresql")]
    NoHost,
    /// A host with characters that no host has.
    #[error("the host is neither a name, an IP address (IPv6 in brackets), nor the folder of a Unix socket")]
    BadHost,
    /// Several hosts.
    #[error("a target is one host ({0}); add one target for each")]
    OneHost(&'static str),
    /// A port that is none.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    /// A user or database name that can't be.
    #[error("the {0} has to be 1 to {MAX_NAME_LEN} printable bytes")]
    BadName(&'static str),
    /// Given twice.
    #[error("`{0}` is given twice; keep one")]
    Twice(String),
    /// A parameter without a value.
    #[error("a parameter is NAME=VALUE; several are joined by `&`")]
    NoValue,
    /// A parameter that the gateway does not honour.
    #[error("`{0}` is no parameter that a target can have; there are {known}", known = parameter::KNOWN)]
    UnknownParameter(String),
    /// A value that the parameter can't have.
    #[error("`{parameter}` has to be {allowed}")]
    BadValue {
        /// Which parameter.
        parameter: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// An empty secret.
    #[error("`{0}` is empty; leave it out if there is none")]
    Empty(String),
    /// A secret that is too long.
    #[error("`{0}` is longer than {max} bytes", max = super::MAX_MATERIAL_LEN)]
    TooLong(String),
    /// A certificate or key that is none.
    #[error("`{0}` is not in PEM form; it should hold a line that begins with -----BEGIN")]
    NotPem(String),
    /// A reference to no variable.
    #[error(
        "`env:` in `{0}` should be followed by the name of an environment variable: letters, digits and `_`"
    )]
    BadVariable(String),
    /// The variable is not set.
    #[error(
        "`{parameter}` refers to the environment variable {variable}, which the gateway does not have; set it and restart the gateway"
    )]
    NoVariable {
        /// Which parameter.
        parameter: String,
        /// The variable.
        variable: String,
    },
    /// A reference to Vault.
    #[error("`vault:` in `{0}` is not supported yet; use `env:NAME` or `file:PATH`")]
    Vault(String),
    /// A file that can't be read.
    #[error("`{parameter}` is to be read from {}, which failed; check the path and who may read it", path.display())]
    File {
        /// Which parameter.
        parameter: String,
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret that no URL can carry.
    #[error("`{0}` is not UTF-8 text and can't be sent; refer to it with `env:NAME`")]
    Bytes(String),
    /// A private key without its certificate, or the other way round.
    #[error("`sslcert` and `sslkey` belong together; give both or neither")]
    HalfPair,
    /// Verification without anything to verify against.
    #[error(
        "`sslmode={0}` needs to know whom to trust: add sslrootcert=FILE, or sslrootcert=system with verify-full"
    )]
    NoRoots(String),
    /// Direct TLS where plain would do as well.
    #[error("`sslnegotiation=direct` needs sslmode=require, verify-ca or verify-full")]
    DirectWithoutTls,
    /// A login is missing.
    #[error(
        "the URL names no login; the gateway logs in as it: ssh://LOGIN@HOST?key=file:PATH&host_key=file:PATH"
    )]
    SshNoUser,
    /// A host is missing.
    #[error("the URL names no host: ssh://LOGIN@HOST?key=file:PATH&host_key=file:PATH")]
    SshNoHost,
    /// A folder at the target.
    #[error("an ssh target is a host, without a path behind it")]
    SshPath,
    /// A parameter that an ssh target does not have.
    #[error("`{name}` is no parameter that an ssh target can have; there are {known}")]
    UnknownSshParameter {
        /// Which.
        name: String,
        /// Those that there are.
        known: &'static str,
    },
    /// No private key.
    #[error("`key` has to be a private key that begins with -----BEGIN and has no passphrase")]
    NoPrivateKey,
    /// A file of public keys with something else in it.
    #[error(
        "`{0}` has to hold lines such as `ssh-ed25519 AAAA…`: host_key and host_ca as the target's /etc/ssh/*.pub or `ssh-keyscan` have them, key_cert as ssh-keygen -s made it"
    )]
    NoSshKey(String),
    /// A certificate without the key that it was made for.
    #[error("`key_cert` is of no use without its `key`; give both")]
    CertWithoutKey,
    /// A binding to nothing.
    #[error("`channel_binding=require` needs TLS; `sslmode=disable` turns it off")]
    BindingWithoutTls,
}

pub(super) fn parse(text: &str) -> Result<TargetUrl, TargetUrlError> {
    if text.len() > MAX_URL_LEN {
        return Err(TargetUrlError::Long);
    }
    if let Some(rest) = text.strip_prefix("ssh://") {
        return ssh::parse(rest);
    }
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let mut parts = Parts::default();
    let database = address(rest.ok_or(TargetUrlError::Scheme)?, &mut parts)?;
    if let Some(database) = database.filter(|database| !database.is_empty()) {
        parts.set("dbname", decode(database)?)?;
    }
    parts.finish()
}

/// Reads what is common to all schemes: user, host, port and the query. Returns the path, without its slash.
pub(super) fn address<'a>(rest: &'a str, parts: &mut Parts) -> Result<Option<&'a str>, TargetUrlError> {
    let rest = user_info(rest, parts)?;
    // Only now: a password may have been mistaken for a host, a path or a query.
    if rest.contains('@') {
        return Err(TargetUrlError::StrayAt);
    }
    if rest.contains('#') {
        return Err(TargetUrlError::Fragment);
    }
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) =
        rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    host_and_port(authority, parts)?;
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(TargetUrlError::NoValue)?;
        match (decode(name)?.as_str(), decode(value)?.as_str()) {
            // What JDBC writes, and libpq understands.
            ("ssl", "true") => parts.set("sslmode", "require".to_owned())?,
            (name, value) => parts.set(name, value.to_owned())?,
        }
    }
    Ok(path)
}

/// What was found so far, by libpq's names.
#[derive(Default)]
pub(super) struct Parts(pub(super) BTreeMap<String, String>);

impl Parts {
    fn set(&mut self, name: &str, value: String) -> Result<(), TargetUrlError> {
        match self.0.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(TargetUrlError::Twice(name.chars().take(40).collect())),
        }
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_some_and(|found| found == value)
    }

    fn finish(mut self) -> Result<TargetUrl, TargetUrlError> {
        let user = name("user", self.0.remove("user").ok_or(TargetUrlError::NoUser)?)?;
        let host = check_host(self.0.remove("host").ok_or(TargetUrlError::NoHost)?)?;
        let port = self.0.remove("port").map(|port| check_port(&port)).transpose()?;
        let database = self.0.remove("dbname").map(|database| name("database", database)).transpose()?;
        let mut material = BTreeMap::new();
        for name in parameter::MATERIAL {
            // libpq's way to ask for the system's certificate authorities; there is no file to read.
            if name == "sslrootcert" && self.0.get(name).is_some_and(|value| value == "system") {
                continue;
            }
            if let Some(value) = self.0.remove(name) {
                material.insert(name.to_owned(), parameter::material(name, &value)?);
            }
        }
        for (name, value) in self.0.iter().filter(|(name, _)| *name != "sslrootcert") {
            parameter::check(name, value)?;
        }
        if material.contains_key("sslcert") != material.contains_key("sslkey") {
            return Err(TargetUrlError::HalfPair);
        }
        if self.is("sslmode", "disable") && self.is("channel_binding", "require") {
            return Err(TargetUrlError::BindingWithoutTls);
        }
        // libpq does the same: the system's authorities vouch for names only, so the name has to be checked.
        if self.is("sslrootcert", "system") && !self.is("sslmode", "verify-full") {
            if self.0.contains_key("sslmode") {
                return Err(TargetUrlError::BadValue {
                    parameter: "sslmode".to_owned(),
                    allowed: "verify-full where sslrootcert is `system`",
                });
            }
            self.0.insert("sslmode".to_owned(), "verify-full".to_owned());
        }
        let mode = self.0.get("sslmode").map(String::as_str);
        if let Some(mode @ ("verify-ca" | "verify-full")) = mode
            && !material.contains_key("sslrootcert")
            && !self.0.contains_key("sslrootcert")
        {
            return Err(TargetUrlError::NoRoots(mode.to_owned()));
        }
        if self.is("sslnegotiation", "direct")
            && !matches!(mode, Some("require" | "verify-ca" | "verify-full"))
        {
            return Err(TargetUrlError::DirectWithoutTls);
        }
        Ok(TargetUrl { kind: TargetKind::Postgres, user, host, port, database, parameters: self.0, material })
    }
}

/// Takes `user:password@` off the front. A reference to a file may have slashes in it.
fn user_info<'a>(rest: &'a str, parts: &mut Parts) -> Result<&'a str, TargetUrlError> {
    let reference = rest.split_once(':').filter(|(user, password)| {
        !user.contains(['@', '/', '?']) && ["file:", "vault:"].iter().any(|kind| password.starts_with(kind))
    });
    if let Some((user, password)) = reference {
        let (password, rest) = password.split_once('@').ok_or(TargetUrlError::NoHost)?;
        return set_user_info(parts, user, Some(password)).map(|()| rest);
    }
    let end = rest.find(['@', '/', '?']).unwrap_or(rest.len());
    let Some((info, rest)) = rest.split_at_checked(end).filter(|(_, rest)| rest.starts_with('@')) else {
        return Ok(rest);
    };
    let (user, password) =
        info.split_once(':').map_or((info, None), |(user, password)| (user, Some(password)));
    set_user_info(parts, user, password)?;
    Ok(rest.strip_prefix('@').unwrap_or_default())
}

fn set_user_info(parts: &mut Parts, user: &str, password: Option<&str>) -> Result<(), TargetUrlError> {
    if !user.is_empty() {
        parts.set("user", decode(user)?)?;
    }
    match password {
        Some(password) if !password.is_empty() => parts.set("password", decode(password)?),
        _ => Ok(()),
    }
}

fn host_and_port(authority: &str, parts: &mut Parts) -> Result<(), TargetUrlError> {
    if authority.contains(',') {
        return Err(TargetUrlError::OneHost("the URL names several"));
    }
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(TargetUrlError::BadHost)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| TargetUrlError::BadHost)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(TargetUrlError::BadHost),
        }
    } else {
        authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
    };
    if !host.is_empty() {
        parts.set("host", decode(host)?)?;
    }
    match port {
        Some(port) if !port.is_empty() => parts.set("port", decode(port)?),
        _ => Ok(()),
    }
}

pub(super) fn check_port(text: &str) -> Result<u16, TargetUrlError> {
    if text.contains(',') {
        return Err(TargetUrlError::OneHost("the URL names several ports"));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(TargetUrlError::BadPort)
}

pub(super) fn check_host(host: String) -> Result<String, TargetUrlError> {
    if host.contains(',') {
        return Err(TargetUrlError::OneHost("the URL names several"));
    }
    let socket = host.starts_with('/') && !host.chars().any(char::is_control);
    let address = host.parse::<std::net::IpAddr>().is_ok();
    let well = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = !host.is_empty() && host.len() <= 253 && host.bytes().all(well);
    if socket || address || name { Ok(host) } else { Err(TargetUrlError::BadHost) }
}

pub(super) fn name(what: &'static str, text: String) -> Result<String, TargetUrlError> {
    if text.is_empty() || text.len() > MAX_NAME_LEN || text.chars().any(char::is_control) {
        Err(TargetUrlError::BadName(what))
    } else {
        Ok(text)
    }
}

/// Percent-decodes as libpq does: a stray `%` and a zero byte are errors, and `+` is a plus.
fn decode(text: &str) -> Result<String, TargetUrlError> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let (digits, after) = after.split_at_checked(2).ok_or(TargetUrlError::Percent)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TargetUrlError::Percent);
        }
        rest = after;
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| TargetUrlError::Percent)?;
    if decoded.contains('\0') { Err(TargetUrlError::ZeroByte) } else { Ok(decoded.into_owned()) }
}
