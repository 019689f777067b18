use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> TargetUrl {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn password(url: &TargetUrl) -> Option<&Material> {
    url.material().get("password")
}

fn content(text: &str) -> Material {
    Material::Content(Secret::new(text.as_bytes().to_vec()))
}

#[test]
fn urls_are_shown_without_their_secret() {
    for (typed, shown, secret) in [
        ("postgres://app:secret@db:5432/orders", "postgres://app@db:5432/orders", "secret"),
        ("postgresql://app:secret@db/orders", "postgres://app@db/orders", "secret"),
        ("postgres://app:s%40c%2Fr%23t%25@db", "postgres://app@db", "s@c/r#t%"),
        ("postgres://app:a:b@db", "postgres://app@db", "a:b"),
        ("postgres://app:text:env:X@db", "postgres://app@db", "env:X"),
        ("postgres://app@db/orders?password=a%26b", "postgres://app@db/orders", "a&b"),
        ("postgres://app:secret@[2001:db8::1]:6432/o", "postgres://app@[2001:db8::1]:6432/o", "secret"),
        (
            "postgres://app:secret@/orders?host=/run/postgresql",
            "postgres://app@/orders?host=/run/postgresql",
            "secret",
        ),
        (
            "postgres://app:secret@%2Frun%2Fpostgresql/orders",
            "postgres://app@/orders?host=/run/postgresql",
            "secret",
        ),
        (
            "postgres:///orders?host=db&user=app&password=secret&port=5433",
            "postgres://app@db:5433/orders",
            "secret",
        ),
        (
            "postgres://app:secret@db/o?sslmode=require&application_name=gate%20way&connect_timeout=5&keepalives_idle=30&require_auth=!md5,!password",
            "postgres://app@db/o?application_name=gate%20way&connect_timeout=5&keepalives_idle=30&require_auth=%21md5,%21password&sslmode=require",
            "secret",
        ),
        ("postgres://a%40b:secret@db/o%3Fo", "postgres://a%40b@db/o%3Fo", "secret"),
        ("postgres://app:secret@db?ssl=true", "postgres://app@db?sslmode=require", "secret"),
        (
            "postgres://app:secret@db?sslrootcert=system",
            "postgres://app@db?sslmode=verify-full&sslrootcert=system",
            "secret",
        ),
    ] {
        let url = parse(typed);
        assert_eq!(url.to_string(), shown);
        assert_eq!(password(&url), Some(&content(secret)), "{typed}");
        assert_eq!(parse(shown).to_string(), shown, "what is shown parses to itself");
    }
}

#[test]
fn references_are_recognised_in_every_place() {
    let env = Material::Env("PGPW".to_owned());
    let file = Material::File("/run/secrets/pg".into());
    for (typed, expected) in [
        ("postgres://app:env:PGPW@db/o", &env),
        ("postgres://app:env%3APGPW@db/o", &env),
        ("postgres://app@db/o?password=env:PGPW", &env),
        ("postgres://app@db/o?password=env%3APGPW", &env),
        ("postgres://app:file:/run/secrets/pg@db/o", &file),
        ("postgres://app:file:%2Frun%2Fsecrets%2Fpg@db/o", &file),
        ("postgres://app@db/o?password=file:/run/secrets/pg", &file),
    ] {
        let url = parse(typed);
        assert_eq!(password(&url), Some(expected), "{typed}");
        assert_eq!(url.to_string(), "postgres://app@db/o");
    }
    let url = parse("postgres://app@db?sslrootcert=ca.pem&sslcert=file:c.pem&sslkey=env:KEY");
    assert_eq!(url.material()["sslrootcert"], Material::File("ca.pem".into()));
    assert_eq!(url.material()["sslcert"], Material::File("c.pem".into()));
    assert_eq!(url.material()["sslkey"], Material::Env("KEY".to_owned()));
    assert_eq!(url.to_string(), "postgres://app@db");
}

#[test]
fn files_are_read_once_and_travel_in_the_exposed_url() {
    let mut url = parse("postgres://app:file:pw@db/o?sslrootcert=ca.pem&sslmode=verify-ca");
    assert_eq!(url.unread(), Some("password"));
    url.read_files(|path| match path.to_str() {
        Some("pw") => Ok(b"env:se cret&=%\n".to_vec()),
        Some("ca.pem") => Ok(b"-----BEGIN CERTIFICATE-----\nAAAA+/==\n".to_vec()),
        other => panic!("{other:?}"),
    })
    .unwrap();
    assert_eq!(url.unread(), None);
    assert_eq!(password(&url), Some(&content("env:se cret&=%")));
    let sent = url.expose().unwrap();
    assert_eq!(parse(&sent), url);
    assert!(!format!("{url:?} {url}").contains("cret"));
}

#[test]
fn files_that_cannot_be_what_they_should_are_refused() {
    let read = |url: &str, content: &'static [u8]| {
        let mut url = parse(url);
        url.read_files(|_| Ok(content.to_vec())).unwrap_err().to_string()
    };
    let messages = [
        read("postgres://a@db?password=file:p", b"\n"),
        read("postgres://a@db?sslrootcert=c", b"no certificate"),
        read("postgres://a@db?password=file:p", b"a\0b"),
        read("postgres://a@db?password=file:p", vec![b'a'; MAX_MATERIAL_LEN + 1].leak()),
        parse("postgres://a@db?password=file:/none/pw")
            .read_files(|_| Err(std::io::ErrorKind::NotFound.into()))
            .unwrap_err()
            .to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

/// Every refusal, with its sentence. Wherever a password can be mistaken for something else it is `hunter2`,
/// which must not come up in any.
#[test]
fn each_bad_url_has_its_sentence() {
    let mut lines = String::new();
    for bad in [
        "",
        "app:hunter2@db",
        "mysql://app:hunter2@db",
        "postgres://",
        "postgres://db/orders",
        "postgres://app:hunter2@",
        "postgres://app:hunter2@/orders",
        "postgres://app:/hunter2@db/orders",
        "postgres://app:hun?ter2=hunter2@db/orders",
        "postgres://app:hunter2@db/orders#hunter2",
        "postgres://app:hunter2@x@db/orders",
        "postgres://app:hunter2",
        "postgres://app:hunter2%@db",
        "postgres://app:hunter2%zz@db",
        "postgres://app:hunter2%ff@db",
        "postgres://app:hunter2%00@db",
        "postgres://app:hunter2@db:0",
        "postgres://app:hunter2@db:+1",
        "postgres://app:hunter2@db:65536",
        "postgres://app:hunter2@db:5432,db2",
        "postgres://app:hunter2@db1,db2/orders",
        "postgres://app:hunter2@/o?host=db1,db2",
        "postgres://app:hunter2@d b/o",
        "postgres://app:hunter2@[::1/o",
        "postgres://app:hunter2@[db]/o",
        "postgres://app:hunter2@db/o?target_session_attrs=read-write",
        "postgres://app:hunter2@db/o?sslmod=require",
        "postgres://app:hunter2@db/o?passfile=/x",
        "postgres://app:hunter2@db/o?sslmode=hunter2",
        "postgres://app:hunter2@db/o?channel_binding=on",
        "postgres://app:hunter2@db/o?sslnegotiation=tls",
        "postgres://app:hunter2@db/o?connect_timeout=soon",
        "postgres://app:hunter2@db/o?application_name=a%0Ab",
        "postgres://app:hunter2@db/o?sslmode",
        "postgres://app:hunter2@db/o?sslmode=require&sslmode=disable",
        "postgres://app:hunter2@db/o?password=hunter2",
        "postgres://app:hunter2@db/o?sslmode=disable&channel_binding=require",
        "postgres://app:hunter2@db/o?sslmode=require&sslrootcert=system",
        "postgres://app:hunter2@db/o?sslmode=verify-full",
        "postgres://app:hunter2@db/o?sslnegotiation=direct",
        "postgres://app:hunter2@db/o?require_auth=!md5,scram-sha-256",
        "postgres://app:hunter2@db/o?hostaddr=db",
        "postgres://app:hunter2@db/o?keepalives_idle=-1",
        "postgres://app:hunter2@db/o?gssencmode=require",
        "postgres://app:hunter2@db/o?sslcert=c.pem",
        "postgres://app:hunter2@db/o?sslkey=",
        "postgres://app:env:@db",
        "postgres://app:env:A-B@db",
        "postgres://app:vault:kv/hunter2@db",
        "postgres://app@db?password=vault:kv/hunter2",
        "postgres://app:file:/run/hunter2",
    ] {
        let error = bad.parse::<TargetUrl>().expect_err(bad).to_string();
        assert!(!error.contains("hunter2"), "{bad}: {error}");
        lines.push_str(bad);
        lines.push_str("\n    ");
        lines.push_str(&error);
        lines.push('\n');
    }
    insta::assert_snapshot!(lines);
}

proptest! {
    #[test]
    fn any_password_survives_and_never_shows(secret in "[^\0]{1,40}") {
        let mut typed = String::from("postgres://app:");
        typed.extend(utf8_percent_encode(&format!("text:{secret}"), NON_ALPHANUMERIC));
        typed.push_str("@db/orders");
        let url = parse(&typed);
        prop_assert_eq!(password(&url), Some(&content(&secret)));
        prop_assert_eq!(format!("{url:?} {url}"), "TargetUrl(postgres://app@db/orders) postgres://app@db/orders");
        prop_assert_eq!(parse(&url.expose().unwrap()), url);
    }

    #[test]
    fn any_text_is_read_or_refused_and_what_is_shown_is_stable(text in "(postgres://)?[a-z:@/?&=%#,\\[\\].0-9]{0,40}") {
        if let Ok(url) = text.parse::<TargetUrl>() {
            let shown = url.to_string();
            prop_assert_eq!(shown.parse::<TargetUrl>().unwrap().to_string(), shown);
        }
    }
}

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

#[test]
fn ssh_urls_keep_keys_as_secrets_and_files_of_host_keys_as_lines() {
    let mut url = parse("ssh://deploy@web:2222?key=file:id&host_key=file:host.pub&connect_timeout=5");
    assert_eq!((url.kind(), url.user()), (TargetKind::Ssh, "deploy"));
    assert_eq!(url.to_string(), "ssh://deploy@web:2222?connect_timeout=5");
    assert_eq!(url.unread(), Some("host_key"));
    url.read_files(|path| match path.to_str() {
        Some("id") => {
            Ok(b"-----BEGIN OPENSSH PRIVATE KEY-----\nsecret+/=\n-----END OPENSSH PRIVATE KEY-----\n"
                .to_vec())
        }
        Some("host.pub") => Ok(format!("# a comment\n[web]:2222 {HOST_KEY} root@web\n").into_bytes()),
        other => panic!("{other:?}"),
    })
    .unwrap();
    let sent = url.expose().unwrap();
    assert_eq!(parse(&sent), url);
    assert!(!format!("{url:?} {url}").contains("secret"));
    let typed =
        format!("ssh://deploy:pw@[::1]?host_key={}", HOST_KEY.replace(' ', "%20").replace('+', "%2B"));
    let url = parse(&typed);
    assert_eq!(url.to_string(), "ssh://deploy@[::1]");
    assert_eq!(url.material()["host_key"], content(HOST_KEY));
    assert_eq!(password(&url), Some(&content("pw")));
}

#[test]
fn each_bad_ssh_url_has_its_sentence() {
    let mut lines = String::new();
    for bad in [
        "ssh://web",
        "ssh://deploy@",
        "ssh://deploy@web/srv",
        "ssh://deploy@web?sslmode=require",
        "ssh://deploy@%2Frun%2Fsocket",
        "ssh://deploy@web?key_cert=file:c",
        "ssh://deploy@web?key=ssh-ed25519%20AAAA",
        "ssh://deploy@web?host_key=ssh-ed25519%20AAAA",
        "ssh://deploy@web?host_key=text:-----BEGIN%20OPENSSH%20PRIVATE%20KEY-----",
        "ssh://deploy@web?host_key=text:%23%20nothing",
    ] {
        let error = bad.parse::<TargetUrl>().unwrap_err();
        lines.push_str(&format!("{bad}\n    {error}\n"));
    }
    insta::assert_snapshot!(lines);
}
