//! Finds what may not stand as it is in a JSON string: a quote, a backslash, a control character.
//!
//! Most strings are names and short texts, so what is near is looked at a word at a time, without a call; what is long
//! is passed over in blocks, which compilers make vector instructions of.

/// So many bytes are looked at by words before it is worth it to look at whole blocks.
const NEAR: usize = 32;

/// How many bytes stand for themselves in a JSON string before the first that does not, or the end.
///
/// A text is the content of a string literal as it is if this is its length.
#[inline]
pub fn plain_len(bytes: &[u8]) -> usize {
    let Some(word) = bytes.first_chunk() else { return plain_len_of_few(bytes) };
    match special(*word) {
        0 => plain_len_of_many(bytes),
        special => first(special),
    }
}

/// As [`plain_len`], for less than a word.
#[inline(never)]
fn plain_len_of_few(bytes: &[u8]) -> usize {
    if let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let [a, b, c, d] = *head;
        let [e, f, g, h] = *tail;
        // The two may overlap, so this tells whether there is something but not where.
        if special([a, b, c, d, e, f, g, h]) == 0 {
            return bytes.len();
        }
    }
    bytes.iter().take_while(|byte| is_plain(**byte)).count()
}

/// As [`plain_len`], where the first word is known to be plain.
#[inline(never)]
fn plain_len_of_many(bytes: &[u8]) -> usize {
    let mut at = 8;
    while at < NEAR
        && let Some(word) = bytes[at..].first_chunk()
    {
        match special(*word) {
            0 => at += 8,
            special => return at + first(special),
        }
    }
    plain_len_from(bytes, at)
}

/// As [`plain_len`], where so many bytes are known to be plain.
#[inline(never)]
fn plain_len_from(bytes: &[u8], mut at: usize) -> usize {
    let (blocks, _) = bytes[at..].as_chunks::<32>();
    at += 32 * blocks.iter().take_while(|block| is_plain_block(block)).count();
    let (words, tail) = bytes[at..].as_chunks();
    for word in words {
        match special(*word) {
            0 => at += 8,
            special => return at + first(special),
        }
    }
    at + plain_len_of_few(tail)
}

/// Exchanges the quote and the space, which puts the quote next to the control characters.
const EXCHANGED: u8 = b'"' ^ b' ';

fn is_plain(byte: u8) -> bool {
    byte ^ EXCHANGED > b' ' && byte != b'\\'
}

fn is_plain_block(block: &[u8; 32]) -> bool {
    // Counted in bytes and without an early end, so that all of them are looked at at once.
    block.iter().fold(0, |special, byte| special | u8::from(!is_plain(*byte))) == 0
}

/// A byte in each of the eight places.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Sets the highest bit of each byte that does not stand for itself. Zero if all do.
///
/// Subtracting borrows from the byte above one that is less, so a bit above the lowest that is set may be wrong.
#[inline]
fn special(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let control_or_quote = (word ^ each(EXCHANGED)).wrapping_sub(each(b' ' + 1));
    let backslash = (word ^ each(b'\\')).wrapping_sub(each(1));
    (control_or_quote | backslash) & !word & each(0x80)
}

/// The place of the lowest byte whose highest bit is set.
#[inline]
fn first(special: u64) -> usize {
    special.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text that is mostly plain, so that it is passed over at length, and what is next to what is not.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![40 => 0x23_u8..0x5b, 4 => 0x80_u8.., 1 => 0x1e_u8..0x24, 1 => 0x5b_u8..0x5e, 1 => any::<u8>()];
        prop::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn it_stops_where_a_loop_over_bytes_does(bytes in bytes()) {
            for at in 0..bytes.len() {
                let expected = bytes[at..].iter().position(|byte| *byte < 0x20 || b"\"\\".contains(byte));
                prop_assert_eq!(plain_len(&bytes[at..]), expected.unwrap_or(bytes.len() - at));
            }
        }
    }

    #[test]
    fn every_byte_is_told_in_every_place() {
        for byte in 0..=u8::MAX {
            for len in 1..100 {
                for place in 0..len {
                    let mut bytes = vec![b'a'; len];
                    bytes[place] = byte;
                    let is_special = byte < 0x20 || b"\"\\".contains(&byte);
                    let expected = if is_special { place } else { len };
                    assert_eq!(plain_len(&bytes), expected, "{byte} at {place} of {len}");
                }
            }
        }
    }
}
