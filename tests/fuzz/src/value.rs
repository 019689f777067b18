//! Binary parameter values.

use postgres::wire::value::write_text;

/// What a value may grow by: a numeric of a few bytes can have 131,072 digits before the point and 65,535 behind it.
const MAX_GROWN_BYTES: usize = 256 * 1024;

/// Four bytes of type OID, big-endian, then the value: something is shown whatever the bytes are, it has a bound, and
/// what stands before it in the buffer stays.
pub fn value(data: &[u8]) {
    let (oid, value) = crate::head::<4>(data);
    let mut out = b"before".to_vec();
    write_text(u32::from_be_bytes(oid), value, &mut out);
    let shown = out.strip_prefix(b"before").expect("what was there stays");
    assert!(shown.len() <= MAX_GROWN_BYTES + value.len() * 16);
}
