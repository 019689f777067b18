//! The password hash of `md5` authentication: MD5 of password and role, then of that and the server's salt.
//! Weak, and still what old servers ask for; PostgreSQL drops it after version 18.

use md5::{Digest, Md5};
use zeroize::Zeroizing;

fn hex(bytes: impl AsRef<[u8]>) -> Zeroizing<String> {
    use std::fmt::Write;
    let mut text = Zeroizing::new(String::with_capacity(32));
    for byte in bytes.as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The text to send: `md5` and 32 hexadecimal digits.
pub fn response(user: &str, password: &[u8], salt: [u8; 4]) -> Zeroizing<String> {
    let inner = hex(Md5::new().chain_update(password).chain_update(user).finalize());
    let outer = hex(Md5::new().chain_update(inner.as_bytes()).chain_update(salt).finalize());
    Zeroizing::new(format!("md5{}", *outer))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_what_the_server_computes() {
        // `SELECT 'md5' || md5(md5('secret' || 'app') || E'\\x01\\x02\\x03\\x04')` in PostgreSQL 15.
        let text = super::response("app", b"secret", [1, 2, 3, 4]);
        assert_eq!(*text, "md5911f527656472583a006e7727877b33e");
    }
}
