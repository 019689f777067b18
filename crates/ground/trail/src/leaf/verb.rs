//! Verbs that a leaf may name: a fixed list, so that a leaf holds nothing that a client made up.

/// Verbs and their codes, by name. Codes are part of the format: add at will, never change or reuse one.
const VERBS: &[(&str, u16)] = &[
    ("ABORT", 1),
    ("ALTER", 2),
    ("ALTER AGGREGATE", 3),
    ("ALTER DATABASE", 4),
    ("ALTER DEFAULT PRIVILEGES", 5),
    ("ALTER DOMAIN", 6),
    ("ALTER EXTENSION", 7),
    ("ALTER FUNCTION", 8),
    ("ALTER INDEX", 9),
    ("ALTER MATERIALIZED VIEW", 10),
    ("ALTER POLICY", 11),
    ("ALTER PUBLICATION", 12),
    ("ALTER ROLE", 13),
    ("ALTER SCHEMA", 14),
    ("ALTER SEQUENCE", 15),
    ("ALTER SUBSCRIPTION", 16),
    ("ALTER SYSTEM", 17),
    ("ALTER TABLE", 18),
    ("ALTER TRIGGER", 19),
    ("ALTER TYPE", 20),
    ("ALTER VIEW", 21),
    ("ANALYZE", 22),
    ("BEGIN", 23),
    ("CALL", 24),
    ("CHECKPOINT", 25),
    ("CLOSE", 26),
    ("CLUSTER", 27),
    ("COMMENT", 28),
    ("COMMIT", 29),
    ("COMMIT PREPARED", 30),
    ("COPY", 31),
    ("CREATE", 32),
    ("CREATE AGGREGATE", 33),
    ("CREATE CAST", 34),
    ("CREATE COLLATION", 35),
    ("CREATE DATABASE", 36),
    ("CREATE DOMAIN", 37),
    ("CREATE EVENT TRIGGER", 38),
    ("CREATE EXTENSION", 39),
    ("CREATE FOREIGN DATA WRAPPER", 40),
    ("CREATE FOREIGN TABLE", 41),
    ("CREATE FUNCTION", 42),
    ("CREATE INDEX", 43),
    ("CREATE LANGUAGE", 44),
    ("CREATE MATERIALIZED VIEW", 45),
    ("CREATE OPERATOR", 46),
    ("CREATE POLICY", 47),
    ("CREATE PROCEDURE", 48),
    ("CREATE PUBLICATION", 49),
    ("CREATE ROLE", 50),
    ("CREATE RULE", 51),
    ("CREATE SCHEMA", 52),
    ("CREATE SEQUENCE", 53),
    ("CREATE SERVER", 54),
    ("CREATE STATISTICS", 55),
    ("CREATE SUBSCRIPTION", 56),
    ("CREATE TABLE", 57),
    ("CREATE TABLE AS", 58),
    ("CREATE TABLESPACE", 59),
    ("CREATE TRIGGER", 60),
    ("CREATE TYPE", 61),
    ("CREATE USER", 62),
    ("CREATE USER MAPPING", 63),
    ("CREATE VIEW", 64),
    ("DEALLOCATE", 65),
    ("DECLARE", 66),
    ("DECLARE CURSOR", 67),
    ("DELETE", 68),
    ("DISCARD", 69),
    ("DISCARD ALL", 70),
    ("DO", 71),
    ("DROP", 72),
    ("DROP DATABASE", 73),
    ("DROP EXTENSION", 74),
    ("DROP FUNCTION", 75),
    ("DROP INDEX", 76),
    ("DROP MATERIALIZED VIEW", 77),
    ("DROP OWNED", 78),
    ("DROP POLICY", 79),
    ("DROP PROCEDURE", 80),
    ("DROP ROLE", 81),
    ("DROP SCHEMA", 82),
    ("DROP SEQUENCE", 83),
    ("DROP TABLE", 84),
    ("DROP TABLESPACE", 85),
    ("DROP TRIGGER", 86),
    ("DROP TYPE", 87),
    ("DROP USER", 88),
    ("DROP VIEW", 89),
    ("EMPTY", 90),
    ("END", 91),
    ("EXEC", 200),
    ("EXECUTE", 92),
    ("EXPLAIN", 93),
    ("FETCH", 94),
    ("FORWARD", 203),
    ("FUNCTION CALL", 95),
    ("GET", 210),
    ("GRANT", 96),
    ("GRANT ROLE", 97),
    ("IMPORT FOREIGN SCHEMA", 98),
    ("INSERT", 99),
    ("LINK", 223),
    ("LIST", 212),
    ("LISTEN", 100),
    ("LOAD", 101),
    ("LOCK", 102),
    ("LOCK TABLE", 103),
    ("MERGE", 104),
    ("MKDIR", 217),
    ("MOVE", 105),
    ("NOTIFY", 106),
    ("PREPARE", 107),
    ("PREPARE TRANSACTION", 108),
    ("PUT", 211),
    ("READLINK", 219),
    ("REALPATH", 221),
    ("REASSIGN OWNED", 109),
    ("REFRESH MATERIALIZED VIEW", 110),
    ("REINDEX", 111),
    ("RELEASE", 112),
    ("REMOVE", 215),
    ("RENAME", 113),
    ("RESET", 114),
    ("REVOKE", 115),
    ("REVOKE ROLE", 116),
    ("RMDIR", 218),
    ("ROLLBACK", 117),
    ("ROLLBACK PREPARED", 118),
    ("ROLLBACK TO", 119),
    ("SAVEPOINT", 120),
    ("SECURITY LABEL", 121),
    ("SELECT", 122),
    ("SELECT INTO", 123),
    ("SET", 124),
    ("SET CONSTRAINTS", 125),
    ("SET TRANSACTION", 126),
    ("SETSTAT", 214),
    ("SFTP", 222),
    ("SHELL", 201),
    ("SHOW", 127),
    ("SIGNAL", 204),
    ("START TRANSACTION", 128),
    ("STAT", 213),
    ("SUBSYSTEM", 202),
    ("SYMLINK", 220),
    ("TRUNCATE", 129),
    ("TRUNCATE TABLE", 130),
    ("TYPED", 205),
    ("UNKNOWN", 131),
    ("UNLISTEN", 132),
    ("UPDATE", 133),
    ("VACUUM", 134),
    ("VALUES", 135),
    ("WITH", 136),
];

/// The code of a verb, if it is in the list.
pub(crate) fn code_of(verb: &str) -> Option<u16> {
    let found = VERBS.binary_search_by(|(known, _)| (*known).cmp(verb)).ok()?;
    VERBS.get(found).map(|(_, code)| *code)
}

/// The verb that a code stands for.
pub(crate) fn name_of(code: u16) -> Option<&'static str> {
    VERBS.iter().find(|(_, known)| *known == code).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_no_code_stands_twice() {
        assert!(VERBS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let mut codes: Vec<u16> = VERBS.iter().map(|(_, code)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), VERBS.len());
        for (name, code) in VERBS {
            assert_eq!(code_of(name), Some(*code));
            assert_eq!(name_of(*code), Some(*name));
        }
        assert_eq!(code_of("select"), None);
    }

    /// Who writes a verifier has the list from there.
    #[test]
    fn the_format_document_has_the_same_list() {
        let document = include_str!("../../../../../docs/ledger-format.md");
        let (_, section) = document.split_once("\n### Verbs\n").unwrap();
        let (section, _) = section.split_once("\nNew ones are added").unwrap();
        let words = section.split_whitespace().collect::<Vec<_>>().join(" ");
        let listed: Vec<(u16, &str)> = words
            .trim_end_matches('.')
            .split(", ")
            .map(|item| item.split_once(' ').unwrap())
            .map(|(code, verb)| (code.parse().unwrap(), verb))
            .collect();
        let mut known: Vec<(u16, &str)> = VERBS.iter().map(|(verb, code)| (*code, *verb)).collect();
        known.sort_unstable();
        assert_eq!(listed, known);
    }
}
