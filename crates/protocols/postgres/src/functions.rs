//! Functions that clients call by OID, past SQL: libpq's large-object interface. The OIDs are fixed in
//! `pg_proc.dat`; anything else is recorded as unknown.

use vocabulary::{Class, Effect, Facts, FunctionUse};

/// A function known by its OID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    oid: u32,
    /// Its name in `pg_catalog`.
    pub name: &'static str,
    class: Class,
    /// OIDs of its arguments' types.
    pub types: &'static [u32],
}

const BYTEA: u32 = 17;
const INT8: u32 = 20;
const INT4: u32 = 23;
const OID: u32 = 26;

const KNOWN: [Known; 12] = [
    Known { oid: 715, name: "lo_create", class: Class::Write, types: &[OID] },
    Known { oid: 952, name: "lo_open", class: Class::Read, types: &[OID, INT4] },
    Known { oid: 953, name: "lo_close", class: Class::Read, types: &[INT4] },
    Known { oid: 954, name: "loread", class: Class::Read, types: &[INT4, INT4] },
    Known { oid: 955, name: "lowrite", class: Class::Write, types: &[INT4, BYTEA] },
    Known { oid: 956, name: "lo_lseek", class: Class::Read, types: &[INT4, INT4, INT4] },
    Known { oid: 957, name: "lo_creat", class: Class::Write, types: &[INT4] },
    Known { oid: 958, name: "lo_tell", class: Class::Read, types: &[INT4] },
    Known { oid: 964, name: "lo_unlink", class: Class::Write, types: &[OID] },
    Known { oid: 1004, name: "lo_truncate", class: Class::Write, types: &[INT4, INT4] },
    Known { oid: 3170, name: "lo_lseek64", class: Class::Read, types: &[INT4, INT8, INT4] },
    Known { oid: 3172, name: "lo_truncate64", class: Class::Write, types: &[INT4, INT8] },
];

/// The function with that OID, if it is known.
#[must_use]
pub fn by_oid(oid: u32) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.oid == oid)
}

/// The call as SQL would write it, and its facts.
#[must_use]
pub fn describe(oid: u32, known: Option<&Known>) -> (String, Facts) {
    let Some(known) = known else {
        return (format!("(function with OID {oid})"), Facts::unknown("FUNCTION CALL"));
    };
    let slots: Vec<String> = (1..=known.types.len()).map(|number| format!("${number}")).collect();
    let effect = if known.class == Class::Write { Effect::Write } else { Effect::Pure };
    let facts = Facts {
        functions: vec![FunctionUse { name: known.name.to_owned(), effect }],
        ..Facts::plain("FUNCTION CALL", known.class)
    };
    (format!("SELECT pg_catalog.{}({})", known.name, slots.join(", ")), facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_unknown() {
        assert_eq!(describe(952, by_oid(952)).0, "SELECT pg_catalog.lo_open($1, $2)");
        assert_eq!(describe(2559, by_oid(2559)).1.class, Class::Unknown);
    }
}
