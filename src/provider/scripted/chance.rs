//! Numbers that look like chance and are the same in every run.

/// Scatters a number over all others (`SplitMix64`).
pub(super) const fn scatter(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A number from 0 to 1, without 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
pub(super) fn share(seed: u64) -> f64 {
    (scatter(seed) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number for a text (FNV-1a).
pub(super) fn of_text(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_spread_evenly() {
        let below = (0..10_000).filter(|n| share(*n) < 0.1).count();
        assert!((900..1_100).contains(&below), "{below}");
        assert!((0..10_000).all(|n| (0.0..1.0).contains(&share(n))));
    }
}
