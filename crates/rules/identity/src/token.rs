//! The secret that a principal shows: minted here, shown once, kept only as verifiers.
//!
//! A token is `tg_`, 43 random characters of `0-9A-Za-z` (256 bits), and 6 characters of checksum. The prefix
//! and the checksum let a secret scanner recognise a leaked token with practically no false alarm, and let us
//! tell a mistyped token from a wrong one. Pattern: `tg_[0-9A-Za-z]{49}`.

use std::fmt;

use aws_lc_rs::{constant_time, digest, rand};
use zeroize::{Zeroize, Zeroizing};

/// What every token begins with.
pub const PREFIX: &str = "tg_";

/// Random characters: 43 × log2(62) = 256.03 bits.
const SECRET_CHARS: usize = 43;

/// Characters of checksum: the first 32 bits of the SHA-256 of prefix and secret, in base 62.
const CHECKSUM_CHARS: usize = 6;

/// Characters of a whole token.
pub const TOKEN_CHARS: usize = PREFIX.len() + SECRET_CHARS + CHECKSUM_CHARS;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token in full. Never printed by accident, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

/// Why a text is no token. Never repeats the text: it may be a secret with a typo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins with something else, or has the wrong length.
    #[error("this is not a token: a token is `tg_` and 49 letters and digits; copy it whole")]
    Shape,
    /// The checksum at its end does not fit.
    #[error("the token is mistyped: its checksum does not fit; copy it again from where it was shown")]
    Checksum,
    /// The operating system gave no random bytes.
    #[error("the system has no random numbers to give; no token was made")]
    NoRandomness,
}

impl Token {
    /// A new random token.
    ///
    /// # Errors
    /// [`TokenError::NoRandomness`] if the system's generator fails.
    pub fn mint() -> Result<Self, TokenError> {
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_CHARS));
        text.push_str(PREFIX);
        let mut pool = Zeroizing::new([0u8; 64]);
        while text.len() < PREFIX.len() + SECRET_CHARS {
            rand::fill(&mut *pool).map_err(|_| TokenError::NoRandomness)?;
            // 248 = 4 × 62: what lies above would make some characters likelier than others.
            let fair = pool.iter().filter(|byte| **byte < 248);
            for byte in fair.take(PREFIX.len() + SECRET_CHARS - text.len()) {
                text.push(digit(u32::from(*byte)));
            }
        }
        let checksum = checksum(&text);
        text.extend(checksum);
        Ok(Self(text))
    }

    /// Reads a token that somebody typed or pasted.
    ///
    /// # Errors
    /// [`TokenError::Shape`] or [`TokenError::Checksum`] if no gateway can have minted it.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let secret = text.strip_prefix(PREFIX).ok_or(TokenError::Shape)?;
        if text.len() != TOKEN_CHARS || !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(TokenError::Shape);
        }
        let (body, given) = text.split_at_checked(PREFIX.len() + SECRET_CHARS).ok_or(TokenError::Shape)?;
        if given.chars().eq(checksum(body)) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(TokenError::Checksum)
        }
    }

    /// The token itself. Only for showing it once, and for deriving verifiers.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its digest, to be kept.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(tg_…)")
    }
}

fn digit(value: u32) -> char {
    let index = usize::try_from(value % 62).unwrap_or(0);
    ALPHABET.get(index).copied().map_or('0', char::from)
}

fn checksum(body: &str) -> [char; CHECKSUM_CHARS] {
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let mut value = hash.as_ref().first_chunk::<4>().copied().map_or(0, u32::from_be_bytes);
    let mut text = ['0'; CHECKSUM_CHARS];
    for slot in text.iter_mut().rev() {
        *slot = digit(value);
        value /= 62;
    }
    text
}

/// SHA-256 of a token. With 256 bits of entropy behind it, a plain hash can't be searched.
#[derive(Clone, Copy)]
pub struct TokenDigest(pub [u8; 32]);

impl TokenDigest {
    /// The digest of whatever was presented as a token.
    #[must_use]
    pub fn of(presented: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, presented);
        Self(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

impl PartialEq for TokenDigest {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for TokenDigest {}

impl Zeroize for TokenDigest {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_minted_token_reads_back_and_never_repeats() {
        let tokens: Vec<Token> = (0..200).map(|_| Token::mint().unwrap()).collect();
        for token in &tokens {
            assert_eq!(token.expose().len(), TOKEN_CHARS);
            assert_eq!(&Token::parse(token.expose()).unwrap(), token);
        }
        let distinct: HashSet<&str> = tokens.iter().map(Token::expose).collect();
        assert_eq!(distinct.len(), tokens.len());
    }

    #[test]
    fn all_characters_come_up_about_as_often() {
        let mut counts = [0u32; 128];
        for _ in 0..2_000 {
            let token = Token::mint().unwrap();
            for byte in token.expose().bytes().skip(PREFIX.len()).take(SECRET_CHARS) {
                counts[usize::from(byte)] += 1;
            }
        }
        let mean = 2_000.0 * 43.0 / 62.0;
        for symbol in ALPHABET {
            let seen = f64::from(counts[usize::from(*symbol)]);
            assert!((seen - mean).abs() < mean * 0.25, "{}: {seen} of about {mean}", char::from(*symbol));
        }
    }

    #[test]
    fn neither_debug_nor_errors_show_the_secret() {
        let token = Token::mint().unwrap();
        let secret = &token.expose()[PREFIX.len()..];
        assert!(!format!("{token:?} {:?}", token.digest()).contains(secret));
        let cut = &token.expose()[..20];
        assert!(!Token::parse(cut).unwrap_err().to_string().contains(cut));
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_a_typo(place in PREFIX.len()..TOKEN_CHARS, shift in 1usize..62) {
            let token = Token::mint().unwrap();
            let mut text = token.expose().to_owned().into_bytes();
            let now = ALPHABET.iter().position(|c| *c == text[place]).unwrap();
            text[place] = ALPHABET[(now + shift) % 62];
            prop_assert_eq!(Token::parse(&String::from_utf8(text).unwrap()), Err(TokenError::Checksum));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            prop_assert!(Token::parse(&text).is_err());
        }
    }
}
