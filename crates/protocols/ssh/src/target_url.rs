//! A target's address, from the URL that the control state keeps: `ssh://LOGIN@HOST[:PORT][?connect_timeout=S]
//! [&shell_integration=on]`.

use std::time::Duration;

use percent_encoding::percent_decode_str;

/// Port of SSH servers (RFC 4253, section 4).
const DEFAULT_PORT: u16 = 22;

/// How long connecting and logging in may take, unless the URL says otherwise.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a target is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The account that the gateway logs in to.
    pub login: String,
    /// A name or an address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How long connecting and logging in may take.
    pub connect_timeout: Duration,
    /// Whether its shells are asked to tell what they run.
    pub shell_integration: bool,
}

impl Address {
    /// Reads a URL that the store has checked already.
    ///
    /// Returns `None` if it is no such URL after all.
    #[must_use]
    pub fn of_url(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("ssh://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, authority) = rest.split_once('@')?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest.strip_prefix(':'))
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok())?;
        let mut connect_timeout = DEFAULT_CONNECT_TIMEOUT;
        let mut shell_integration = false;
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "connect_timeout" => connect_timeout = Duration::from_secs(value.parse().ok()?),
                "shell_integration" => shell_integration = value == "on",
                _ => {}
            }
        }
        let decode = |text| percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned);
        let (login, host) = (decode(login)?, decode(host)?);
        Some(Self { login, host, port, connect_timeout, shell_integration })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_store_writes_them() {
        let read =
            |url| Address::of_url(url).map(|at| (at.login, at.host, at.port, at.connect_timeout.as_secs()));
        let is = |login: &str, host: &str, port, timeout| Some((login.into(), host.into(), port, timeout));
        assert_eq!(read("ssh://deploy@web"), is("deploy", "web", 22, 10));
        assert_eq!(
            read("ssh://a%40b@[2001:db8::1]:2222?connect_timeout=3"),
            is("a@b", "2001:db8::1", 2222, 3)
        );
        let tells = |url| Address::of_url(url).map(|at| at.shell_integration);
        assert_eq!(tells("ssh://deploy@web"), Some(false));
        assert_eq!(tells("ssh://deploy@web?connect_timeout=3&shell_integration=on"), Some(true));
        assert_eq!(tells("ssh://deploy@web?shell_integration=off"), Some(false));
        assert_eq!(read("ssh://deploy@web:22x"), None);
        assert_eq!(read("postgres://deploy@web"), None);
    }
}
