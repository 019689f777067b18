//! Messages, conversations, values and statements.

use postgres::wire::auth;
use postgres::wire::error_response::Report;
use postgres::wire::packet;
use postgres::wire::startup::{CancelRequest, Protocol, put_startup, ssl_request};

use super::super::Seed;

fn message(tag: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    packet::put(&mut out, tag, |out| out.extend_from_slice(body.as_ref()));
    out
}

fn body(message: &[u8]) -> Vec<u8> {
    message.get(5..).unwrap_or_default().to_vec()
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0"))
}

fn parse(name: &str, text: &str, types: &[u32]) -> Vec<u8> {
    let mut body = format!("{name}\0{text}\0").into_bytes();
    body.extend(u16::try_from(types.len()).unwrap_or_default().to_be_bytes());
    body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
    message(b'P', body)
}

/// Values with their formats, each in its own.
fn values(values: &[(bool, Option<&[u8]>)]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap_or_default().to_be_bytes();
    let mut out = count.to_vec();
    out.extend(values.iter().flat_map(|(binary, _)| u16::from(*binary).to_be_bytes()));
    out.extend(count);
    for (_, value) in values {
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
        out.extend(length.to_be_bytes());
        out.extend(value.unwrap_or_default());
    }
    out.extend([0, 0]);
    out
}

fn bind(portal: &str, statement: &str, given: &[(bool, Option<&[u8]>)]) -> Vec<u8> {
    let names = format!("{portal}\0{statement}\0").into_bytes();
    message(b'B', [names, values(given)].concat())
}

fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', [format!("{portal}\0").as_bytes(), &rows.to_be_bytes()].concat())
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0"))
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', [status])
}

fn simple(tag: u8) -> Vec<u8> {
    message(tag, b"")
}

fn failed(code: &'static str) -> Vec<u8> {
    Report::error(code, "no").to_bytes()
}

/// A turn of `conversation`.
fn turn(side: u8, messages: &[Vec<u8>]) -> Vec<u8> {
    let bytes = messages.concat();
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[side][..], &length, &bytes].concat()
}

fn client(messages: &[Vec<u8>]) -> Vec<u8> {
    turn(b'C', messages)
}

fn target(messages: &[Vec<u8>]) -> Vec<u8> {
    turn(b'T', messages)
}

pub fn seeds() -> Vec<Seed> {
    [first_packets(), logins(), messages(), conversations(), plain_values(), lists(), statements()].concat()
}

fn first_packets() -> Vec<Seed> {
    let startup = |version, parameters: &[(&[u8], &[u8])]| {
        written(|out| put_startup(out, version, parameters.iter().copied()))
    };
    let cancel = |length| CancelRequest { pid: 4242, key: vec![0xab; length] }.to_bytes();
    let options = b"-c geqo=off -c trailgate.task=report";
    vec![
        (
            "startup",
            "psql",
            startup(
                Protocol::V3_0,
                &[
                    (b"user", b"chatgpt"),
                    (b"database", b"orders"),
                    (b"application_name", b"psql"),
                    (b"client_encoding", b"UTF8"),
                ],
            ),
        ),
        ("startup", "options", startup(Protocol::V3_2, &[(b"user", b"chatgpt"), (b"options", options)])),
        (
            "startup",
            "newer",
            startup(Protocol { major: 3, minor: 9999 }, &[(b"user", b"x"), (b"_pq_.extension", b"on")]),
        ),
        (
            "startup",
            "replication",
            startup(Protocol::V3_0, &[(b"user", b"x"), (b"replication", b"database")]),
        ),
        ("startup", "replication_odd", startup(Protocol::V3_0, &[(b"user", b"x"), (b"replication", b"of")])),
        ("startup", "no_user", startup(Protocol::V3_0, &[(b"database", b"orders")])),
        ("startup", "protocol_2", startup(Protocol { major: 2, minor: 0 }, &[(b"user", b"x")])),
        ("startup", "ssl_request", ssl_request().to_vec()),
        ("startup", "ssl_request_and_more", [&ssl_request()[..], b"early"].concat()),
        ("startup", "gss_request", vec![0, 0, 0, 8, 4, 210, 22, 48]),
        ("startup", "cancel_short", cancel(4)),
        ("startup", "cancel_long", cancel(256)),
        ("startup", "cancel_too_long", cancel(257)),
        ("startup", "direct_tls", b"\x16\x03\x01\x00\x05hello".to_vec()),
        ("startup", "http", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("startup", "negative_length", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("startup", "longest", startup(Protocol::V3_0, &[(b"user", &[b'u'; 9_989])])),
        ("startup", "half", b"\0\0\0\x20\0\x03\0\0user\0".to_vec()),
        ("options", "settings", b"-c search_path=a\\ b,c --geqo=off -S 1024".to_vec()),
        ("options", "own", b"-c trailgate.auth=cleartext".to_vec()),
        ("options", "own_among_others", b"-c a=b\\ c -ec trailgate.auth=cleartext -c d=e".to_vec()),
        ("options", "argument_taken", b"-d -c trailgate.task=x -- -c role=admin".to_vec()),
        ("options", "trailing_backslash", b"--TRAILGATE.TASK=a\\\\b -crole=admin \\".to_vec()),
    ]
}

fn logins() -> Vec<Seed> {
    let sasl = written(|out| auth::put_sasl(out, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]));
    let first = auth::SaslInitialResponse { mechanism: b"SCRAM-SHA-256", data: Some(b"n,,n=,r=abc") };
    let waits = auth::SaslInitialResponse { mechanism: b"SCRAM-SHA-256", data: None };
    vec![
        ("auth", "sasl", body(&sasl)),
        ("auth", "sasl_first", body(&written(|out| first.encode(out)))),
        ("auth", "sasl_first_waits", body(&written(|out| waits.encode(out)))),
        (
            "auth",
            "sasl_continue",
            body(&written(|out| auth::put_sasl_continue(out, b"r=abcdef,s=QQ==,i=4096"))),
        ),
        ("auth", "md5", vec![0, 0, 0, 5, 1, 2, 3, 4]),
        ("auth", "md5_short", vec![0, 0, 0, 5, 1, 2, 3]),
        ("auth", "ok", vec![0, 0, 0, 0]),
        ("auth", "gss", vec![0, 0, 0, 7]),
        ("auth", "password", b"tg_secret\0".to_vec()),
        ("auth", "password_with_zero", b"tg\0secret\0".to_vec()),
        ("packet", "password", message(b'p', b"secret\0")),
        ("packet", "two", [message(b'Q', b"SELECT 1\0"), simple(b'S')].concat()),
        ("packet", "empty_body", simple(b'S')),
        ("packet", "length_3", vec![b'p', 0, 0, 0, 3]),
        ("packet", "length_negative", vec![b'p', 0xff, 0xff, 0xff, 0xff]),
        ("packet", "length_1_gib", vec![b'p', 0x40, 0, 0, 0]),
    ]
}

fn messages() -> Vec<Seed> {
    let error = Report::fatal("57P01", "terminating connection").with_hint("ask").to_bytes();
    let given: [(bool, Option<&[u8]>); 3] =
        [(false, Some(b"42")), (true, Some(&[0, 0, 0, 7])), (false, None)];
    let call = [&1574u32.to_be_bytes()[..], &values(&[(true, Some(&[0, 0, 64, 0]))])].concat();
    vec![
        ("frontend", "parse", body(&parse("s", "SELECT $1", &[23]))),
        ("frontend", "parse_too_many_types", b"s\0SELECT 1\0\xff\xff".to_vec()),
        ("frontend", "bind", body(&bind("p", "s", &given))),
        (
            "frontend",
            "bind_one_format",
            [&b"\0\0\0\x01\0\x01\0\x02"[..], b"\0\0\0\x01\x01\0\0\0\x01\x02\0\0"].concat(),
        ),
        ("frontend", "bind_negative_length", b"\0\0\0\0\0\x01\xff\xff\xff\xfe".to_vec()),
        ("frontend", "bind_65535_values", b"\0\0\0\0\xff\xff".to_vec()),
        ("frontend", "execute", body(&execute("p", 100))),
        ("frontend", "close", b"Ss\0".to_vec()),
        ("frontend", "function_call", call),
        ("backend", "select", b"SELECT 5".to_vec()),
        ("backend", "insert", b"INSERT 0 3".to_vec()),
        ("backend", "too_large", b"SELECT 18446744073709551616".to_vec()),
        ("backend", "largest", b"SELECT 18446744073709551615".to_vec()),
        ("backend", "no_rows", b"CREATE TABLE".to_vec()),
        ("backend", "parameter", b"search_path\0public\0".to_vec()),
        ("backend", "description", vec![0, 2, 0, 0, 0, 23, 0, 0, 0, 25]),
        ("backend", "description_short", vec![0xff, 0xff, 0, 0, 0, 23]),
        ("error_response", "fatal", body(&error)),
        ("error_response", "old_server", b"SFEHLER\0C42P01\0Mes fehlt\0\0".to_vec()),
        ("error_response", "not_ended", b"SERROR\0VERROR\0C42601\0Mno".to_vec()),
        ("error_response", "not_utf8", b"VERROR\0C\xff2601\0M\xc3\x28\0\0".to_vec()),
        ("error_response", "empty", vec![0]),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table: one seed after the other")]
fn conversations() -> Vec<Seed> {
    let (done, one) = (ready(b'I'), message(b'D', b"\0\0"));
    let pipeline = [
        parse("", "DELETE FROM t WHERE id = $1", &[23]),
        bind("", "", &[(true, Some(&[0, 0, 0, 7]))]),
        message(b'D', b"P\0"),
        execute("", 0),
        simple(b'S'),
    ];
    let answers = [simple(b'1'), simple(b'2'), simple(b'n'), complete("DELETE 1"), done.clone()];
    let copy = [query("COPY t FROM STDIN"), message(b'd', b"1\n"), message(b'd', b"2\n"), simple(b'c')];
    let copy_asked = message(b'G', [0, 0, 0]);
    vec![
        ("client_messages", "query", query("SELECT 1")),
        ("client_messages", "several", query("INSERT INTO t VALUES (1); SELECT 1; SELEKT")),
        ("client_messages", "pipeline", pipeline.concat()),
        ("client_messages", "copy", copy.concat()),
        ("client_messages", "copy_fails", [query("COPY t FROM STDIN"), message(b'f', b"no\0")].concat()),
        ("client_messages", "unknown_type", message(b'y', b"")),
        ("client_messages", "negative_length", vec![b'Q', 0xff, 0xff, 0xff, 0xff]),
        ("client_messages", "length_1_gib", vec![b'B', 0x3f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        ("client_messages", "small_message_too_large", vec![b'D', 0, 1, 0, 0, b'S']),
        (
            "client_messages",
            "function_call",
            message(b'F', [&1574u32.to_be_bytes()[..], &values(&[])].concat()),
        ),
        (
            "client_messages",
            "setting_in_doubt",
            [query("SET standard_conforming_strings = off"), query("SELECT '\\'; DELETE FROM t --'")]
                .concat(),
        ),
        (
            "client_messages",
            "timestamp",
            [
                parse("", "SELECT $1", &[1114]),
                bind("", "", &[(true, Some(&[9, 0, 0, 0, 0, 0, 0, 0]))]),
                simple(b'S'),
                simple(b'X'),
            ]
            .concat(),
        ),
        (
            "conversation",
            "simple",
            [
                client(&[query("SELECT 1")]),
                target(&[simple(b'T'), one.clone(), complete("SELECT 1"), done.clone()]),
            ]
            .concat(),
        ),
        ("conversation", "extended", [client(&pipeline), target(&answers)].concat()),
        (
            "conversation",
            "several_and_one_fails",
            [
                client(&[query("DELETE FROM t; DELETE FROM u; DELETE FROM v")]),
                target(&[complete("DELETE 1"), failed("23503"), done.clone()]),
            ]
            .concat(),
        ),
        (
            "conversation",
            "pipeline_fails_and_goes_on",
            [
                client(&[pipeline.concat(), pipeline.concat()]),
                target(&[failed("42601"), done.clone()]),
                target(&answers),
            ]
            .concat(),
        ),
        (
            "conversation",
            "portal_in_parts",
            [
                client(&[
                    parse("s", "SELECT 1", &[]),
                    bind("p", "s", &[]),
                    execute("p", 1),
                    execute("p", 1),
                    simple(b'S'),
                ]),
                target(&[
                    simple(b'1'),
                    simple(b'2'),
                    one.clone(),
                    simple(b's'),
                    one,
                    simple(b's'),
                    done.clone(),
                ]),
            ]
            .concat(),
        ),
        (
            "conversation",
            "transaction",
            [
                client(&[query("BEGIN")]),
                target(&[complete("BEGIN"), ready(b'T')]),
                client(&[query("SET search_path = a; SELEKT")]),
                target(&[failed("42601"), ready(b'E')]),
                client(&[query("ROLLBACK")]),
                target(&[complete("ROLLBACK"), done.clone()]),
            ]
            .concat(),
        ),
        (
            "conversation",
            "copy_in",
            [
                client(&copy[..1]),
                target(std::slice::from_ref(&copy_asked)),
                client(&copy[1..]),
                target(&[complete("COPY 2"), done.clone()]),
            ]
            .concat(),
        ),
        (
            "conversation",
            "copy_in_at_once",
            [
                client(&[copy.concat(), query("SELECT 1")]),
                target(&[copy_asked, complete("COPY 2"), done.clone(), complete("SELECT 1"), done.clone()]),
            ]
            .concat(),
        ),
        (
            "conversation",
            "stalled_by_a_setting",
            [
                client(&[query("SET standard_conforming_strings = off"), query("SELECT '\\'")]),
                target(&[complete("SET"), done.clone()]),
                target(&[complete("SELECT 1"), done.clone()]),
            ]
            .concat(),
        ),
        (
            "conversation",
            "prepare_and_execute",
            [
                client(&[query("PREPARE p AS DELETE FROM t"), query("EXECUTE p")]),
                target(&[complete("PREPARE"), done.clone()]),
                target(&[complete("DELETE 4"), done.clone()]),
            ]
            .concat(),
        ),
        (
            "conversation",
            "described",
            [
                client(&[parse("s", "SELECT $1", &[]), message(b'D', b"Ss\0"), simple(b'S')]),
                target(&[simple(b'1'), message(b't', [0, 1, 0, 0, 4, 90]), simple(b'T'), done.clone()]),
                client(&[
                    bind("", "s", &[(true, Some(&[9, 0, 0, 0, 0, 0, 0, 0]))]),
                    execute("", 0),
                    simple(b'S'),
                ]),
                target(&[simple(b'2'), complete("SELECT 1"), done]),
            ]
            .concat(),
        ),
        (
            "conversation",
            "target_says_goodbye",
            [client(&[query("SELECT pg_sleep(9)")]), target(&[Report::fatal("57P01", "over").to_bytes()])]
                .concat(),
        ),
        (
            "conversation",
            "target_speaks_unasked",
            target(&[message(b'A', b"\0\0\0\x01n\0\0"), complete("SELECT 1"), failed("42601"), ready(b'T')]),
        ),
        ("conversation", "target_length_2", target(&[vec![b'Z', 0, 0, 0, 2]])),
    ]
}

fn plain_values() -> Vec<Seed> {
    let typed = |oid: u32, value: &[u8]| [&oid.to_be_bytes()[..], value].concat();
    vec![
        // A past bug: a moment far beyond the calendar.
        ("value", "timestamp_beyond_the_calendar", typed(1114, &[9, 0, 0, 0, 0, 0, 0, 0])),
        ("value", "timestamp", typed(1114, &0i64.to_be_bytes())),
        ("value", "timestamptz_infinity", typed(1184, &i64::MAX.to_be_bytes())),
        ("value", "timestamptz_minus_infinity", typed(1184, &i64::MIN.to_be_bytes())),
        ("value", "date", typed(1082, &9823i32.to_be_bytes())),
        ("value", "date_infinity", typed(1082, &i32::MAX.to_be_bytes())),
        ("value", "time", typed(1083, &86_399_999_999i64.to_be_bytes())),
        ("value", "time_24", typed(1083, &86_400_000_000i64.to_be_bytes())),
        ("value", "int4_short", typed(23, &[1])),
        ("value", "int8", typed(20, &(-7i64).to_be_bytes())),
        ("value", "float8_nan", typed(701, &f64::NAN.to_be_bytes())),
        ("value", "bool", typed(16, &[2])),
        ("value", "text_not_utf8", typed(25, b"\xff\xfe")),
        ("value", "jsonb", typed(3802, b"\x01{}")),
        ("value", "uuid", typed(2950, &[0xab; 16])),
        ("value", "unknown_type", typed(999_999, &[0xde, 0xad])),
    ]
}

fn lists() -> Vec<Seed> {
    let words = |oid: u32, words: &[u32]| -> Vec<u8> {
        [oid].iter().chain(words).flat_map(|word| word.to_be_bytes()).collect()
    };
    let numeric = |head: [u16; 4], digits: &[u16]| -> Vec<u8> {
        [
            &1700u32.to_be_bytes()[..],
            &head.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>(),
        ]
        .concat()
    };
    vec![
        ("value", "numeric", numeric([3, 1, 0, 2], &[1, 2345, 6700])),
        ("value", "numeric_longest", numeric([1, 0x7fff, 0x4000, 0xffff], &[1])),
        ("value", "numeric_small", numeric([1, 0x8000, 0, 0xffff], &[1])),
        ("value", "numeric_digit_too_large", numeric([1, 0, 0, 0], &[10_000])),
        ("value", "numeric_nan", numeric([0, 0, 0xc000, 0], &[])),
        ("value", "array", words(1007, &[1, 1, 23, 2, 1, 4, 7, u32::MAX])),
        ("value", "array_of_moments", words(1115, &[1, 0, 1114, 1, 1, 8, 0x0900_0000, 0])),
        ("value", "array_two_dimensions", words(1007, &[2, 0, 23, 1, 1, 2, 1, 4, 7, 4, 8])),
        ("value", "array_of_billions", words(1007, &[1, 0, 23, u32::MAX, 1])),
        (
            "value",
            "array_of_empty_dimensions",
            words(1007, &[6, 0, 23, u32::MAX, 1, u32::MAX, 1, u32::MAX, 1, u32::MAX, 1, u32::MAX, 1, 0, 1]),
        ),
        ("value", "array_of_arrays", words(1007, &[1, 0, 1007, 1, 1, 0])),
    ]
}

fn statements() -> Vec<Seed> {
    let text = |flags: u8, text: &str| [&[flags][..], text.as_bytes()].concat();
    vec![
        (
            "classify",
            "read",
            text(0, "SELECT a, b FROM orders o JOIN c USING (id) WHERE o.id = 1 AND name LIKE 'x%'"),
        ),
        (
            "classify",
            "hidden_write",
            text(0, "WITH gone AS (DELETE FROM carts RETURNING *) SELECT * FROM gone"),
        ),
        ("classify", "several", text(0, "BEGIN; UPDATE t SET a = 1 WHERE b = 2; ; COMMIT -- done\n;")),
        ("classify", "function", text(0, "SELECT nextval('s'), pg_sleep(1), my.f(1)")),
        ("classify", "copy_program", text(0, "COPY t TO PROGRAM 'cat'")),
        ("classify", "do", text(0, "DO $$ BEGIN DELETE FROM t; END $$")),
        ("classify", "prepare", text(0, "PREPARE p (int) AS INSERT INTO t VALUES ($1); EXECUTE p(1)")),
        (
            "classify",
            "ddl",
            text(
                0,
                "CREATE TABLE t AS SELECT 1; ALTER TABLE t ADD COLUMN x int DEFAULT 7; DROP TABLE IF EXISTS t CASCADE",
            ),
        ),
        (
            "classify",
            "settings",
            text(0, "SET LOCAL search_path = a, \"B\"; SELECT set_config('role', 'x', true); RESET ALL"),
        ),
        ("classify", "explain_analyze", text(0, "EXPLAIN (ANALYZE true) DELETE FROM t")),
        ("classify", "backslash", text(1, "SELECT '\\'; DELETE FROM t --'")),
        ("classify", "ambiguous_encoding", text(4, "SELECT 'x\\'")),
        ("classify", "unknown_path", text(8, "SELECT lower('A')")),
        (
            "classify",
            "escapes",
            text(0, "SELECT E'\\xff\\u0041', U&'\\0061' UESCAPE '!', $tag$ ' $tag$, 'it''s'"),
        ),
        ("classify", "comments", text(0, "/* a /* b */ c */ SELECT 1 -- '\n")),
        ("classify", "comment_not_ended", text(0, "SELECT 1 /*/*/*")),
        ("classify", "nested", text(0, &format!("SELECT {}1{}", "(".repeat(300), ")".repeat(300)))),
        ("classify", "signs", text(0, &format!("SELECT 1{}", "+-1".repeat(200)))),
        ("classify", "nul", text(0, "SELECT 1\0; DELETE FROM t")),
        ("classify", "not_utf8", [&b"\0SELECT '"[..], b"\xC0'; DELETE FROM t --'"].concat()),
        ("classify", "empty", text(0, " ; -- nothing\n ;")),
        ("classify", "template", text(0, "SELECT * FROM t WHERE id IN (1, 22, 333) AND x = 4.5e1 LIMIT 10")),
        ("shell", "words", b"ls -la 'a b' \"$HOME\" \\x ~/x *.log {a,b} ${x:-y} $((1 + 2))".to_vec()),
        ("shell", "pipeline", b"cat < f | grep -v x 2>&1 | sort -u > out && echo done || exit 1".to_vec()),
        ("shell", "compound", b"for f in a b; do if [ -f \"$f\" ]; then cat \"$f\"; fi; done".to_vec()),
        ("shell", "case", b"case \"$x\" in a|b) ls ;; (c) pwd ;; *) id; esac".to_vec()),
        ("shell", "substitutions", b"echo $(ls $(pwd)) `id` \"$(cat <(ls))\"".to_vec()),
        ("shell", "here_documents", b"cat <<A <<-'B'\n$(id)\nA\n\tx\n\tB\nls".to_vec()),
        ("shell", "code", b"sh -c 'env X=1 timeout 5 sh -c \"rm x\"'; eval ls; sudo -u a id".to_vec()),
        (
            "shell",
            "find",
            b"find . -name '*.x' -exec sh -c 'rm \"$1\"' _ {} \\; | xargs -I{} cat {}".to_vec(),
        ),
        ("shell", "scripts", b"sed -n '/a/,$p;s|x|y|g' f; awk -F: '{print $1}' f; date -d now +%s".to_vec()),
        ("shell", "function", b"f() { ls; }; f; alias ls=rm; trap 'rm x' EXIT".to_vec()),
        ("search_path", "default", b"\"$user\", public".to_vec()),
        ("search_path", "quoted", b" App, \"My \"\"Schema\"\"\" ,public".to_vec()),
        ("search_path", "empty_name", b"a,,b".to_vec()),
        ("search_path", "empty_quoted", b"\"\"".to_vec()),
        ("search_path", "not_ended", b"\"a".to_vec()),
    ]
}
