//! A difference between two objects of a pack: pieces of the one that it is to, and pieces of its own. Total.

use super::pack::{MAX_KEPT_ONE, Wrong};

/// What a difference makes of its base.
pub(super) fn applied(base: &[u8], difference: &[u8]) -> Result<Vec<u8>, Wrong> {
    let bad = || Wrong("a difference in it does not fit");
    let mut at = 0;
    let length = |at: &mut usize| -> Result<u64, Wrong> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = *difference.get(*at).ok_or_else(bad)?;
            *at += 1;
            if shift > 50 {
                return Err(bad());
            }
            value |= u64::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                return Ok(value);
            }
        }
    };
    if length(&mut at)? != base.len() as u64 {
        return Err(bad());
    }
    let size = length(&mut at)?;
    if size > MAX_KEPT_ONE {
        return Err(Wrong("its commits and folders are too much to look at"));
    }
    let size = usize::try_from(size).map_err(|_| bad())?;
    let mut out = Vec::with_capacity(size.min(1 << 16));
    while let Some(&op) = difference.get(at) {
        at += 1;
        let piece = if op & 128 != 0 {
            let mut number = |bits: std::ops::Range<u8>| -> Result<usize, Wrong> {
                let mut value = 0;
                for (n, bit) in bits.enumerate() {
                    if op & 1 << bit != 0 {
                        value |= usize::from(*difference.get(at).ok_or_else(bad)?) << (8 * n);
                        at += 1;
                    }
                }
                Ok(value)
            };
            let from = number(0..4)?;
            let mut count = number(4..7)?;
            if count == 0 {
                count = 0x10000;
            }
            base.get(from..from.checked_add(count).ok_or_else(bad)?).ok_or_else(bad)?
        } else if op == 0 {
            return Err(bad());
        } else {
            let end = at + usize::from(op);
            let piece = difference.get(at..end).ok_or_else(bad)?;
            at = end;
            piece
        };
        if out.len() + piece.len() > size {
            return Err(bad());
        }
        out.extend_from_slice(piece);
    }
    if out.len() == size { Ok(out) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_difference_to_any_base_has_a_word(base in prop::collection::vec(any::<u8>(), 0..64), difference in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(out) = applied(&base, &difference) {
                prop_assert!(out.len() as u64 <= MAX_KEPT_ONE);
            }
        }
    }
}
