//! The connect card: exactly what to paste so that a principal reaches a target through the gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use vocabulary::{Name, TargetKind};

use crate::types::Addresses;

/// What is written out in a URL's query. `/` stays readable.
const IN_QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Stands where the token belongs: the gateway keeps no tokens, so it can't fill one in.
pub const TOKEN: &str = "TOKEN";

/// What to paste.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectCard {
    /// Who connects.
    pub principal: Name,
    /// Where it goes.
    pub target: Name,
    /// The protocol it speaks.
    pub kind: TargetKind,
    /// The gateway's host.
    pub host: String,
    /// The gateway's port.
    pub port: u16,
    /// Certificate authority to check the gateway by, if clients need one.
    pub ca_file: Option<String>,
    /// What to paste, in the order to show it.
    pub snippets: Vec<Snippet>,
}

/// One thing to paste.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snippet {
    /// Stays the same: `dsn`, `psql`, `pgpass`, `pg_service`, `environment`, `python`, `jdbc`; for SSH `known_hosts`,
    /// `ssh_config`, `ssh`, `sshpass`, `ansible`.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// The text itself.
    pub text: String,
}

impl ConnectCard {
    /// The card for a PostgreSQL target.
    ///
    /// Returns `None` if the gateway has no listener for it.
    #[must_use]
    pub fn postgres(principal: &Name, target: &Name, addresses: &Addresses) -> Option<Self> {
        let (host, port) = reachable(addresses.postgres.as_deref()?, addresses.host.as_deref())?;
        let ca_file = addresses.ca_file.clone().filter(|_| addresses.postgres_tls);
        let ssl = Ssl { offered: addresses.postgres_tls, ca_file: ca_file.as_deref() };
        let url_host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let keywords = ssl.keywords();
        let dsn = format!(
            "postgresql://{principal}:{TOKEN}@{url_host}:{port}/{target}{}",
            as_query(&keywords, libpq_value)
        );
        let note = ssl.note();
        let conninfo: String =
            keywords.iter().map(|(key, value)| format!(" {key}={}", quoted(value))).collect();
        let lines: String = keywords.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        let exports: String = keywords
            .iter()
            .map(|(key, value)| format!("export PG{}={}\n", key.to_uppercase(), shell(value)))
            .collect();
        let snippet = |name: &str, title: &str, text: String| Snippet {
            name: name.to_owned(),
            title: title.to_owned(),
            text: text.trim_end().to_owned(),
        };
        let snippets = vec![
            snippet("dsn", "DSN", dsn.clone()),
            snippet(
                "psql",
                "psql",
                format!(
                    "{note}PGPASSWORD={TOKEN} psql {}",
                    shell(&format!("host={host} port={port} user={principal} dbname={target}{conninfo}"))
                ),
            ),
            snippet(
                "pgpass",
                "~/.pgpass (mode 0600)",
                format!("{}:{port}:*:{principal}:{TOKEN}", host.replace(':', "\\:")),
            ),
            snippet(
                "pg_service",
                "~/.pg_service.conf, then: psql service=NAME",
                format!(
                    "{note}[{target}]\nhost={host}\nport={port}\ndbname={target}\nuser={principal}\n{lines}"
                ),
            ),
            snippet(
                "environment",
                "environment",
                format!(
                    "{note}export PGHOST={host}\nexport PGPORT={port}\nexport PGUSER={principal}\nexport PGPASSWORD={TOKEN}\n\
                     export PGDATABASE={target}\n{exports}"
                ),
            ),
            snippet("python", "Python (psycopg)", format!("psycopg.connect(\"{dsn}\")")),
            snippet(
                "sqlalchemy",
                "Python (SQLAlchemy)",
                format!("create_engine(\"{}\")", dsn.replacen("postgresql:", "postgresql+psycopg:", 1)),
            ),
            snippet(
                "jdbc",
                "JDBC",
                format!(
                    "jdbc:postgresql://{url_host}:{port}/{target}?user={principal}&password={TOKEN}{}",
                    as_query(&ssl.jdbc(), libpq_value).replacen('?', "&", 1)
                ),
            ),
        ];
        Some(Self {
            principal: principal.clone(),
            target: target.clone(),
            kind: TargetKind::Postgres,
            host,
            port,
            ca_file,
            snippets,
        })
    }

    /// The card for an SSH target.
    ///
    /// Returns `None` if the gateway has no listener for it.
    #[must_use]
    pub fn ssh(principal: &Name, target: &Name, addresses: &Addresses) -> Option<Self> {
        let (host, port) = reachable(addresses.ssh.as_deref()?, addresses.host.as_deref())?;
        let keys = addresses.ssh_keys.as_ref()?;
        // As OpenSSH looks it up: with brackets where the port is not its own.
        let known = if port == 22 { host.clone() } else { format!("[{host}]:{port}") };
        let snippet = |name: &str, title: &str, text: String| Snippet {
            name: name.to_owned(),
            title: title.to_owned(),
            text: text.trim_end().to_owned(),
        };
        let snippets = vec![
            snippet(
                "known_hosts",
                "~/.ssh/known_hosts, so that no client asks",
                format!("@cert-authority {known} {}\n{known} {}", keys.authority, keys.host),
            ),
            snippet(
                "ssh_config",
                "~/.ssh/config, then: ssh, scp, sftp, rsync and git as always",
                format!(
                    "Host {target}\n    HostName {host}\n    Port {port}\n    User {target}\n    \
                     StrictHostKeyChecking yes\n    BatchMode yes\n    # IdentityFile: the key of `trailgate agent add {principal} --ssh-key`, or one with \
                     a certificate of\n    # `trailgate ssh cert {principal}`"
                ),
            ),
            snippet("ssh", "ssh", format!("ssh -p {port} {target}@{host}")),
            snippet(
                "sshpass",
                "ssh with the token, where no key is at hand",
                format!("SSHPASS={TOKEN} sshpass -e ssh -p {port} {target}@{host}"),
            ),
            snippet(
                "ansible",
                "Ansible inventory",
                format!("{target} ansible_host={host} ansible_port={port} ansible_user={target}"),
            ),
        ];
        Some(Self {
            principal: principal.clone(),
            target: target.clone(),
            kind: TargetKind::Ssh,
            host,
            port,
            ca_file: None,
            snippets,
        })
    }

    /// The same card with the token in its place.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        for snippet in &mut self.snippets {
            snippet.text = snippet.text.replace(TOKEN, token);
        }
        self
    }
}

/// What a client has to know of the gateway's TLS.
struct Ssl<'a> {
    offered: bool,
    ca_file: Option<&'a str>,
}

impl Ssl<'_> {
    /// libpq keywords and values. `verify-full` also checks the host name; a certificate that the node signed
    /// itself names every address that it listens on.
    fn keywords(&self) -> Vec<(&'static str, String)> {
        match (self.offered, self.ca_file) {
            (false, _) => Vec::new(),
            (true, Some(file)) => {
                vec![("sslmode", "verify-full".to_owned()), ("sslrootcert", file.to_owned())]
            }
            (true, None) => vec![("sslmode", "verify-full".to_owned()), ("sslrootcert", "system".to_owned())],
        }
    }

    /// The same for JDBC. Its driver takes `sslrootcert` for a file's name, whatever it says; Java's own authorities are
    /// behind another factory.
    fn jdbc(&self) -> Vec<(&'static str, String)> {
        let mut keywords = self.keywords();
        if self.ca_file.is_none() {
            for keyword in &mut keywords {
                if keyword.0 == "sslrootcert" {
                    *keyword = ("sslfactory", "org.postgresql.ssl.DefaultJavaSSLFactory".to_owned());
                }
            }
        }
        keywords
    }

    /// A comment line where libpq's version matters: before 16, it takes `system` for a file's name.
    const fn note(&self) -> &'static str {
        if self.offered && self.ca_file.is_none() {
            "# libpq 16 or newer; older: sslrootcert=/etc/ssl/certs/ca-certificates.crt\n"
        } else {
            ""
        }
    }
}

fn as_query(keywords: &[(&str, String)], encode: impl Fn(&str) -> String) -> String {
    let pairs: Vec<String> = keywords.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// A value in the query of a connection URL: `/` stays readable.
fn libpq_value(value: &str) -> String {
    utf8_percent_encode(value, IN_QUERY).to_string()
}

/// A value in a libpq conninfo string.
fn quoted(value: &str) -> String {
    if value.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A word for a POSIX shell. Double quotes where nothing in it means anything inside them, as people write it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else if word.chars().all(|c| plain(c) || c == ' ') {
        format!("\"{word}\"")
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The host and port that a client can use to reach a listener: the name that operators gave it, or its own address;
/// one that listens everywhere is reached on this machine.
fn reachable(address: &str, name: Option<&str>) -> Option<(String, u16)> {
    let address: SocketAddr = address.parse().ok()?;
    if let Some(name) = name {
        return Some((name.to_owned(), address.port()));
    }
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Some((host.to_string(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(addresses: &Addresses) -> String {
        let (principal, target) = ("chatgpt".parse().unwrap(), "orders".parse().unwrap());
        let card = ConnectCard::postgres(&principal, &target, addresses).unwrap();
        let texts: Vec<String> =
            card.snippets.iter().map(|snippet| format!("# {}\n{}\n", snippet.title, snippet.text)).collect();
        texts.join("\n")
    }

    #[test]
    fn without_tls() {
        insta::assert_snapshot!(card(&Addresses {
            postgres: Some("127.0.0.1:15432".into()),
            ..Addresses::default()
        }));
    }

    #[test]
    fn with_an_own_certificate_authority() {
        insta::assert_snapshot!(card(&Addresses {
            postgres: Some("[::]:15432".into()),
            postgres_tls: true,
            ca_file: Some("/var/lib/trail gate/tls/ca.pem".into()),
            ..Addresses::default()
        }));
    }

    #[test]
    fn with_a_certificate_of_an_authority_that_the_system_knows() {
        insta::assert_snapshot!(card(&Addresses {
            host: Some("gateway.example".into()),
            postgres: Some("[::]:15432".into()),
            postgres_tls: true,
            ..Addresses::default()
        }));
    }

    #[test]
    fn for_ssh() {
        let (principal, target) = ("chatgpt".parse().unwrap(), "web1".parse().unwrap());
        let keys = crate::types::SshHostKeys {
            authority: "ssh-ed25519 AAAAauthority".into(),
            host: "ssh-ed25519 AAAAhost".into(),
        };
        let addresses =
            Addresses { ssh: Some("127.0.0.1:12222".into()), ssh_keys: Some(keys), ..Addresses::default() };
        let card = ConnectCard::ssh(&principal, &target, &addresses).unwrap();
        let texts: Vec<String> =
            card.snippets.iter().map(|snippet| format!("# {}\n{}\n", snippet.title, snippet.text)).collect();
        insta::assert_snapshot!(texts.join("\n"));
        assert_eq!(ConnectCard::ssh(&principal, &target, &Addresses::default()), None);
    }

    #[test]
    fn the_token_goes_everywhere_it_belongs() {
        let (principal, target) = ("chatgpt".parse().unwrap(), "orders".parse().unwrap());
        let addresses = Addresses { postgres: Some("10.0.0.1:5432".into()), ..Addresses::default() };
        let card = ConnectCard::postgres(&principal, &target, &addresses).unwrap().with_token("tg_x");
        assert!(card.snippets.iter().all(|snippet| !snippet.text.contains(TOKEN)));
        assert!(card.snippets.iter().filter(|snippet| snippet.text.contains("tg_x")).count() >= 5);
        assert_eq!(ConnectCard::postgres(&principal, &target, &Addresses::default()), None);
    }
}
