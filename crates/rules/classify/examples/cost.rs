//! What judging costs: microseconds for what clients send, and for texts made to be slow.

use std::hint::black_box;
use std::time::Instant;

use classify::postgres::{Cache, NOTHING_PREPARED, Settings, classify};
use classify::shell;

const STATEMENTS: &[(&str, &str)] = &[
    ("pgbench -S", "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;"),
    (
        "insert",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);",
    ),
    (
        "join",
        "SELECT u.id, u.name, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.created > now() - interval '7 days' GROUP BY u.id, u.name HAVING count(o.id) > 3 ORDER BY 3 DESC LIMIT 20",
    ),
    ("begin", "BEGIN"),
];

fn nanoseconds(rounds: u32, mut work: impl FnMut()) -> f64 {
    let begin = Instant::now();
    (0..rounds).for_each(|_| work());
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
}

fn main() {
    let settings = Settings::default();
    println!("{:<12} {:>10} {:>12} {:>14}", "statement", "cold µs", "by text µs", "by template µs");
    for (name, text) in STATEMENTS {
        let cold = nanoseconds(20_000, || {
            black_box(classify(black_box(text.as_bytes()), &settings, NOTHING_PREPARED));
        });
        let mut cache = Cache::new();
        cache.classify(b"SELECT 1 AS other", &settings, NOTHING_PREPARED);
        // Without constants, the key is the text.
        let plain = text.replace("12345", "$1");
        let by_text = nanoseconds(200_000, || {
            black_box(cache.classify(black_box(plain.as_bytes()), &settings, NOTHING_PREPARED));
        });
        let others: Vec<String> = (0..1_000).map(|n| text.replace("12345", &n.to_string())).collect();
        let mut turn = others.iter().cycle();
        let by_template = nanoseconds(200_000, || {
            let text = turn.next().map_or("", String::as_str);
            black_box(cache.classify(black_box(text.as_bytes()), &settings, NOTHING_PREPARED));
        });
        println!("{name:<12} {:>10.2} {:>12.3} {:>14.3}", cold / 1e3, by_text / 1e3, by_template / 1e3);
    }
    println!("\n{:<24} {:>10} {:>10}  class", "made to be slow", "bytes", "ms");
    let hostile = [
        ("( x 5,000", format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000))),
        ("(SELECT x 500", format!("SELECT {}1{}", "(SELECT ".repeat(500), ")".repeat(500))),
        ("(SELECT x 2,000", format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000))),
        ("f( x 2,000", format!("SELECT {}1{}", "f(".repeat(2_000), ")".repeat(2_000))),
        ("CASE x 2,000", format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(2_000), " END".repeat(2_000))),
        ("BEGIN ATOMIC x 20", atomic(20)),
        ("BEGIN ATOMIC x 100", atomic(100)),
        ("BEGIN ATOMIC x 200", atomic(200)),
        ("BEGIN ATOMIC x 400", atomic(400)),
        ("nested comments 500", format!("SELECT 1 {}{}", "/*".repeat(500), "*/".repeat(500))),
        ("nested comments 100,000", format!("SELECT 1 /*{}*/", "/*".repeat(100_000))),
        ("1+1 x 500,000", format!("SELECT 1{}", "+1".repeat(500_000))),
        ("UNION x 20,000", format!("SELECT 1{}", " UNION SELECT 1".repeat(20_000))),
        ("1,1 x 500,000", format!("SELECT 1{}", ",1".repeat(500_000))),
        ("10 MB string", format!("INSERT INTO t VALUES ('{}')", "x".repeat(10_000_000))),
    ];
    for (name, text) in hostile {
        let begin = Instant::now();
        let parsed = classify(text.as_bytes(), &settings, NOTHING_PREPARED);
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        println!("{name:<24} {:>10} {ms:>10.1}  {:?}", text.len(), parsed.class());
    }
    shell_commands();
}

const COMMANDS: &[(&str, &str)] = &[
    ("true", "true"),
    ("ls", "ls -la /var/log"),
    ("pipeline", "ps aux | grep nginx | grep -v grep | awk '{print $2}'"),
    ("ansible", "/bin/sh -c 'echo ~deploy && sleep 0'"),
    ("loop", "for f in /var/log/*.log; do if [ -f \"$f\" ]; then tail -1 \"$f\"; fi; done"),
    ("rsync", "rsync --server --sender -logDtpre.iLsfxCIvu . /srv/data"),
];

fn shell_commands() {
    println!("\n{:<12} {:>10} {:>12}", "command", "cold µs", "cached µs");
    for (name, text) in COMMANDS {
        let text = text.as_bytes();
        let cold = nanoseconds(5_000, || {
            black_box(shell::understand_with(black_box(text), shell::Terminal::Absent));
        });
        let mut cache = shell::Cache::new();
        let cached = nanoseconds(200_000, || {
            black_box(cache.understand(black_box(text), shell::Terminal::Absent));
        });
        println!("{name:<12} {:>10.2} {:>12.3}", cold / 1e3, cached / 1e3);
    }
    let nested = format!("{}ls{}", "( ".repeat(4), "; ) ".repeat(4));
    let widest = format!("{nested}; ").repeat(shell::limits::MAX_BYTES / (nested.len() + 2));
    for (name, text) in [("64 KiB of ( ( ( ( ls", widest.as_str()), ("64 KiB of ls;", &"ls;".repeat(20_000))]
    {
        let begin = Instant::now();
        let understood = shell::understand_with(text.as_bytes(), shell::Terminal::Absent);
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        println!("{name:<24} {:>10} {ms:>10.1}  {}", text.len(), understood.facts.class);
    }
}

fn atomic(times: usize) -> String {
    let body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC ";
    format!("{}SELECT 1;{}", body.repeat(times), "END;".repeat(times))
}
