//! Entry bundles: big-endian `u16` length, entry, and so on for as many entries as the bundle is wide.

use crate::MAX_ENTRY_BYTES;

/// Adds an entry to a bundle; `false`, and nothing added, if it is longer than [`MAX_ENTRY_BYTES`].
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else { return false };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

/// Walks a bundle's entries. After the last whole entry, [`BundleEntries::rest`] is what could not be read: empty in a
/// sound bundle.
#[derive(Debug, Clone)]
pub struct BundleEntries<'a> {
    rest: &'a [u8],
}

/// The entries of a bundle, in order.
#[must_use]
pub fn entries(bundle: &[u8]) -> BundleEntries<'_> {
    BundleEntries { rest: bundle }
}

impl<'a> BundleEntries<'a> {
    /// Bytes not yet read, or unreadable.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for BundleEntries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.rest = rest;
        Some(entry)
    }
}

/// The byte ranges of exactly `width` entries; `None` if the bundle has fewer, more, or a torn one.
#[must_use]
pub fn split(bundle: &[u8], width: u16) -> Option<Vec<std::ops::Range<usize>>> {
    let mut ranges = Vec::with_capacity(usize::from(width));
    let mut walk = entries(bundle);
    for _ in 0..width {
        let entry = walk.next()?;
        let end = bundle.len() - walk.rest().len();
        ranges.push(end - entry.len()..end);
    }
    walk.rest().is_empty().then_some(ranges)
}

/// The most bytes that a bundle can have.
pub(crate) const MAX_BUNDLE_BYTES: usize = 256 * (2 + MAX_ENTRY_BYTES);
