use proptest::prelude::*;

use super::*;

fn parse(url: &str) -> Result<TargetUrl, UrlError> {
    TargetUrl::parse(url, &BTreeMap::new())
}

fn tcp(name: &str, port: u16) -> Host {
    Host::Tcp { name: name.to_owned(), address: None, port }
}

#[test]
fn the_manuals_urls_are_read() {
    let url =
        parse("postgresql://app:s%20x@db.example:6543/orders?connect_timeout=3&application_name=my%26app")
            .unwrap();
    assert_eq!(url.hosts, [tcp("db.example", 6543)]);
    assert_eq!((url.user.as_str(), url.database.as_deref()), ("app", Some("orders")));
    assert_eq!(url.password.unwrap().expose(), b"s x");
    assert_eq!(url.connect_timeout, Duration::from_secs(3));
    assert_eq!(url.application_name.as_deref(), Some("my&app"));
    assert_eq!((url.sslmode, url.direct_tls, url.sni), (SslMode::Prefer, false, true));

    let url = parse("postgres://app@host1:123,host2,[::1]:456/db?target_session_attrs=read-write").unwrap();
    assert_eq!(url.hosts, [tcp("host1", 123), tcp("host2", 5432), tcp("::1", 456)]);
    assert_eq!(url.attributes, SessionAttributes::ReadWrite);

    let url = parse("postgresql:///db?host=/var/lib/postgresql&user=app&port=5433").unwrap();
    assert_eq!(url.hosts, [Host::Unix(PathBuf::from("/var/lib/postgresql/.s.PGSQL.5433"))]);
    assert_eq!(parse("postgres://app@%2Ftmp/db").unwrap().hosts, [Host::Unix("/tmp/.s.PGSQL.5432".into())]);

    let url = parse("postgres://app@db/?hostaddr=10.0.0.7").unwrap();
    let address = Some("10.0.0.7".parse().unwrap());
    assert_eq!(url.hosts, [Host::Tcp { name: "db".into(), address, port: 5432 }]);
    assert_eq!(url.database, None);
}

#[test]
fn secrets_come_from_what_is_kept_and_are_never_shown() {
    let material = [("password", "hunter2"), ("sslrootcert", "system")];
    let material =
        material.map(|(name, value)| (name.to_owned(), Secret::new(value.as_bytes().to_vec()))).into();
    let url = TargetUrl::parse("postgres://app:older@db/x", &material).unwrap();
    assert_eq!(url.password.as_ref().unwrap().expose(), b"hunter2");
    assert_eq!((url.sslmode, &url.roots), (SslMode::VerifyFull, &Roots::System));
    assert!(!format!("{url:?}").contains("hunter2"));
}

#[test]
fn each_fault_has_its_sentence() {
    for (url, sentence) in [
        ("mysql://a@b/c", "the URL does not begin with postgres:// or postgresql://"),
        ("postgres://app@/db", "the URL names no host; write postgres://ROLE@HOST:PORT/DATABASE"),
        ("postgres://db/x", "the URL names no role; write postgres://ROLE@HOST:PORT/DATABASE"),
        ("postgres://a@db:99999/x", "the URL's parameter `port` can't be `99999`: a port is 1 to 65535"),
        ("postgres://a@[::1/x", "the URL's IPv6 address can't be read"),
        ("postgres://a@db/%ff", "the URL's value can't be read"),
        ("postgres://a@db/x?sslmodus=require", "the URL's parameter `sslmodus` is unknown or not supported"),
        ("postgres://a@db/x?service=y", "the URL's parameter `service` is unknown or not supported"),
        (
            "postgres://a@db/x?sslmode=on",
            "the URL's parameter `sslmode` can't be `on`: it is disable, allow, prefer, require, verify-ca or verify-full",
        ),
        (
            "postgres://a@db/x?sslmode=verify-full",
            "the URL's parameter `sslmode` can't be `verify-full`: it needs a root certificate: give sslrootcert=FILE, or sslrootcert=system",
        ),
        (
            "postgres://a@db/x?sslmode=require&sslrootcert=system",
            "the URL's parameter `sslmode` can't be `require`: with sslrootcert=system only verify-full is safe",
        ),
        (
            "postgres://a@db/x?sslnegotiation=direct",
            "the URL's parameter `sslnegotiation` can't be `direct`: it needs sslmode=require or more",
        ),
        (
            "postgres://a@db/x?sslrootcert=/etc/ca.pem",
            "the content of `sslrootcert` is not kept with the target; add the target again so that the file is read",
        ),
    ] {
        assert_eq!(parse(url).unwrap_err().to_string(), sentence, "{url}");
    }
}

#[test]
fn require_auth_is_a_list_of_what_may_or_may_not_be() {
    let methods =
        |value: &str| parse(&format!("postgres://a@db/x?require_auth={value}")).map(|url| url.methods);
    assert_eq!(methods("password,md5").unwrap().unwrap(), ["password", "md5"]);
    assert_eq!(methods("!password,!none").unwrap().unwrap(), ["md5", "scram-sha-256", "gss", "sspi"]);
    assert!(methods("!password,md5").is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(postgres://)?[ -~]{0,60}") {
        let _ = parse(&text);
    }
}
