//! The parameters of libpq that the gateway honours, and what each may be.

use std::path::PathBuf;

use session::Secret;

use super::parse::TargetUrlError;
use super::ssh;
use super::{MAX_MATERIAL_LEN, Material};

/// Every parameter that is honoured, for the message about one that is not.
pub(super) const KNOWN: &str = "host, port, user, password, dbname, sslmode, sslrootcert, sslcert, sslkey, sslnegotiation, sslsni, ssl_min_protocol_version, ssl_max_protocol_version, channel_binding, require_auth, hostaddr, connect_timeout, keepalives, keepalives_idle, keepalives_interval, keepalives_count, tcp_user_timeout, min_protocol_version, max_protocol_version, gssencmode, application_name, client_encoding, options";

/// Those whose value is a secret or a file.
pub(super) const MATERIAL: [&str; 4] = ["password", "sslrootcert", "sslcert", "sslkey"];

/// Longest value, in bytes.
const MAX_VALUE_LEN: usize = 4096;

/// Longest `connect_timeout`, in seconds.
const MAX_CONNECT_TIMEOUT_S: u32 = 3600;

/// Checks a parameter that is neither material nor a part of the address.
pub(super) fn check(name: &str, value: &str) -> Result<(), TargetUrlError> {
    let one_of = |allowed: &'static [&'static str], text: &'static str| {
        if allowed.contains(&value) { Ok(()) } else { Err(bad(name, text)) }
    };
    match name {
        "sslmode" => one_of(
            &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
            "disable, allow, prefer, require, verify-ca or verify-full",
        ),
        "channel_binding" => one_of(&["disable", "prefer", "require"], "disable, prefer or require"),
        "sslnegotiation" => one_of(&["postgres", "direct"], "postgres or direct"),
        "connect_timeout" => match value.parse::<u32>() {
            Ok(seconds) if seconds <= MAX_CONNECT_TIMEOUT_S => Ok(()),
            _ => Err(bad(name, "a whole number of seconds, at most 3600")),
        },
        "sslsni" | "keepalives" => one_of(&["0", "1"], "0 or 1"),
        "ssl_min_protocol_version" | "ssl_max_protocol_version" => {
            one_of(&["TLSv1.2", "TLSv1.3"], "TLSv1.2 or TLSv1.3")
        }
        "min_protocol_version" | "max_protocol_version" => {
            one_of(&["3.0", "3.2", "latest"], "3.0, 3.2 or latest")
        }
        "gssencmode" => one_of(&["disable", "prefer"], "disable or prefer (the gateway has no GSSAPI)"),
        "require_auth" => {
            let method = |text: &str| {
                let bare = text.strip_prefix('!').unwrap_or(text);
                ["none", "password", "md5", "scram-sha-256", "gss", "sspi"].contains(&bare)
            };
            let negated = value.split(',').filter(|text| text.starts_with('!')).count();
            let alike = negated == 0 || negated == value.split(',').count();
            if alike && value.split(',').all(method) {
                Ok(())
            } else {
                Err(bad(
                    name,
                    "a list of none, password, md5 and scram-sha-256, all of them or none with a `!`",
                ))
            }
        }
        "hostaddr" => match value.parse::<std::net::IpAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(bad(name, "one IP address")),
        },
        "keepalives_idle" | "keepalives_interval" | "keepalives_count" | "tcp_user_timeout" => {
            match value.parse::<u32>() {
                Ok(number) if i32::try_from(number).is_ok() => Ok(()),
                _ => Err(bad(name, "a whole number")),
            }
        }
        "application_name" | "client_encoding" | "options" => {
            if value.len() <= MAX_VALUE_LEN && !value.chars().any(char::is_control) {
                Ok(())
            } else {
                Err(bad(name, "at most 4096 printable bytes"))
            }
        }
        "target_session_attrs" | "load_balance_hosts" => {
            Err(TargetUrlError::OneHost("it chooses between several hosts"))
        }
        _ => Err(TargetUrlError::UnknownParameter(name.chars().take(40).collect())),
    }
}

fn bad(name: &str, allowed: &'static str) -> TargetUrlError {
    TargetUrlError::BadValue { parameter: name.to_owned(), allowed }
}

/// Reads a secret or a reference to one. `sslrootcert` and its like are paths in libpq, so a bare value is one.
pub(super) fn material(name: &str, value: &str) -> Result<Material, TargetUrlError> {
    if let Some(path) = value.strip_prefix("file:") {
        return file(name, path);
    }
    if let Some(variable) = value.strip_prefix("env:") {
        let well = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let begins = variable.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        return if begins && variable.bytes().all(well) && variable.len() <= 256 {
            Ok(Material::Env(variable.to_owned()))
        } else {
            Err(TargetUrlError::BadVariable(name.to_owned()))
        };
    }
    if value.starts_with("vault:") {
        return Err(TargetUrlError::Vault(name.to_owned()));
    }
    let written_out =
        ["-----BEGIN", "ssh-", "ecdsa-sha2-", "sk-"].iter().any(|start| value.starts_with(start));
    let content = match value.strip_prefix("text:") {
        Some(content) => content,
        None if name == "password" || written_out => value,
        None => return file(name, value),
    };
    check_material(name, content.as_bytes())?;
    Ok(Material::Content(Secret::new(content.as_bytes().to_vec())))
}

fn file(name: &str, path: &str) -> Result<Material, TargetUrlError> {
    if path.is_empty() {
        return Err(TargetUrlError::Empty(name.to_owned()));
    }
    Ok(Material::File(PathBuf::from(path)))
}

/// Checks content that was read, or written out.
pub(super) fn check_material(name: &str, content: &[u8]) -> Result<(), TargetUrlError> {
    if content.is_empty() {
        Err(TargetUrlError::Empty(name.to_owned()))
    } else if content.len() > MAX_MATERIAL_LEN {
        Err(TargetUrlError::TooLong(name.to_owned()))
    } else if name == "password" && content.contains(&0) {
        Err(TargetUrlError::ZeroByte)
    } else if name != "password" && ssh::MATERIAL.contains(&name) {
        ssh::check_material(name, content)
    } else if name != "password" && !content.windows(10).any(|window| window == b"-----BEGIN") {
        Err(TargetUrlError::NotPem(name.to_owned()))
    } else {
        Ok(())
    }
}
