//! Changes to an input, drawn from a number: the same number, the same changes.

/// Longest input that is made, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// Numbers at which lengths and counts go wrong.
const EDGES: [u32; 14] =
    [0, 1, 2, 3, 4, 5, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0xffff_ffff];

/// Random enough to try things with, and the same on every machine (Marsaglia's xorshift64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of that number.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        // The upper bits are the better ones.
        usize::try_from((self.next() >> 11) % end).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[2]
    }
}

/// Changes `input` at one to four places. `others` are inputs to take pieces from.
pub fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = at + random.below((input.len() - at).min(32) + 1);
        match random.below(9) {
            0 => change(input, at, |byte| byte ^ 1 << random.below(8)),
            1 => change(input, at, |_| random.byte()),
            2 => change(input, at, |byte| byte.wrapping_add(if random.below(2) == 0 { 1 } else { 255 })),
            3 => {
                let edge = EDGES[random.below(EDGES.len())].to_be_bytes();
                // The last one, two or four bytes of it, over what is there.
                let edge = &edge[[0, 2, 3][random.below(3)]..];
                input.iter_mut().skip(at).zip(edge).for_each(|(slot, byte)| *slot = *byte);
            }
            4 => drop(input.drain(at..end)),
            5 => {
                let piece = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            6 => {
                let bytes: Vec<u8> = (0..=random.below(8)).map(|_| random.byte()).collect();
                input.splice(at..at, bytes);
            }
            7 => input.truncate(at),
            _ => {
                let Some(other) = others.get(random.below(others.len())) else { continue };
                let from = random.below(other.len() + 1);
                let to = from + random.below(other.len() - from + 1);
                input.splice(at..end, other[from..to].iter().copied());
            }
        }
        input.truncate(MAX_BYTES);
    }
}

fn change(input: &mut [u8], at: usize, with: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = with(*byte);
    }
}
