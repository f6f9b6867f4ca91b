//! Finds what may not stand as it is in a JSON string: a quote, a backslash, a control character.

/// A byte in each of the eight places.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// How many bytes from `at` on stand for themselves in a JSON string, up to the end of `bytes`.
pub(crate) fn plain_len(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let (words, tail) = rest.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = below(word, b' ') | below(word ^ each(b'"'), 1) | below(word ^ each(b'\\'), 1);
        if special != 0 {
            return place * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let plain = tail.iter().take_while(|byte| **byte >= b' ' && !matches!(byte, b'"' | b'\\')).count();
    words.len() * 8 + plain
}

/// Sets the highest bit of each byte that is less than `limit`, which is at most 128.
///
/// Subtracting borrows from the byte above one that is less, so a bit above the lowest that is set may be wrong.
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(each(limit)) & !word & each(0x80)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_stops_where_a_loop_over_bytes_does(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x1e_u8..0x24, 0x5b_u8..0x5e], 0..40), at in 0_usize..40) {
            let rest = bytes.get(at..).unwrap_or_default();
            let expected = rest.iter().position(|byte| *byte < 0x20 || b"\"\\".contains(byte));
            prop_assert_eq!(plain_len(&bytes, at), expected.unwrap_or(rest.len()));
        }
    }
}
