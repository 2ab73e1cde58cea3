//! Finding a rate that nobody tells: what share of the configured one a provider bears, when its
//! refusals are all there is to go by. Other software may use the same key.
//!
//! A refusal cuts the share, by a tenth or, when one follows soon on another, by more. Then it climbs back:
//! fast at first, slowly near the mark where it was refused, and faster again beyond it (the curve
//! of TCP CUBIC, RFC 9438, section 4). A mark that was found again is believed for longer.
//! `limiter/lua/bucket.lua` does the same sums.

/// A share of the configured rate that grows with time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Where it began; may lie below the least share, so that even that one grows back.
    pub low: f64,
    /// Where it was refused.
    pub mark: f64,
    /// When it was cut, in microseconds.
    pub at: f64,
    /// How long it takes from `low` to `mark`, in microseconds.
    pub span: f64,
}

/// The least share: a key that is refused again and again is still asked now and then.
const LEAST: f64 = 0.01;

/// How long the way back takes at first and at most, in microseconds.
const SPAN: (f64, f64) = (15e6, 120e6);

/// A refusal within this time of another follows soon on it.
const SOON: f64 = 10e6;

/// What a refusal leaves, and what one leaves that follows soon on another.
const CUT: (f64, f64) = (0.9, 0.7);

/// By how much a share may differ from the mark to have found it again.
const NEAR: f64 = 0.15;

impl Share {
    /// The share now; 1 when it was never refused.
    pub fn now(share: Option<Self>, now: f64) -> f64 {
        let Some(share) = share else { return 1.0 };
        let x = (now - share.at).max(0.0) / share.span - 1.0;
        let grown = share.mark + (share.mark - share.low) * (x * x * x);
        grown.clamp(LEAST, 1.0)
    }

    /// The share after a refusal of a call that departed at `departed`; `None` when that was
    /// before the last cut, which has answered it already.
    pub fn refused(share: Option<Self>, now: f64, departed: f64) -> Option<Self> {
        let at = share.map_or(f64::MIN, |share| share.at);
        if departed <= at {
            return None;
        }
        let mark = Self::now(share, now);
        let cut = if now - at < SOON { CUT.1 } else { CUT.0 };
        let span = match share {
            Some(known) if (mark - known.mark).abs() <= known.mark * NEAR => {
                (known.span * 2.0).min(SPAN.1)
            }
            _ => SPAN.0,
        };
        Some(Self { low: mark * cut, mark, at: now, span })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses a provider that bears this share of the rate, with a second's burst, for so many
    /// seconds: refusals in the last half, and the used part of what it bears then.
    fn found(bears: f64, seconds: u32) -> (u32, f64) {
        let (mut share, mut level, mut refused, mut used) = (None, 0.0f64, 0, 0.0);
        for tenth in 0..seconds * 10 {
            let now = f64::from(tenth) * 1e5;
            let rate = Share::now(share, now);
            level = (level + (rate - bears) / 10.0).max(0.0);
            let late = tenth > seconds * 5;
            if level > bears {
                level = bears;
                share = Share::refused(share, now, now).or(share);
                refused += u32::from(late);
            }
            used += if late { rate.min(bears) / 10.0 } else { 0.0 };
        }
        (refused, used / (bears * f64::from(seconds) / 2.0))
    }

    #[test]
    fn the_true_rate_is_found_and_used() {
        for bears in [0.05, 0.2, 0.5, 0.77, 0.95] {
            let (refused, used) = found(bears, 600);
            assert!(refused <= 10, "{bears}: {refused} refusals in five minutes");
            assert!(used > 0.93, "{bears}: {used}");
        }
    }

    #[test]
    fn it_comes_back_when_nothing_is_in_the_way() {
        let cut = Share::refused(None, 1e6, 1e6).unwrap();
        assert!((Share::now(Some(cut), 1e6) - 0.9).abs() < 1e-9);
        assert!((Share::now(Some(cut), 200e6) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn even_the_least_share_grows_back() {
        let (mut share, mut now) = (None, 0.0);
        for _ in 0..100 {
            now += 1e6;
            share = Share::refused(share, now, now);
        }
        assert!((Share::now(share, now) - LEAST).abs() < 1e-9);
        assert!((Share::now(share, now + 1_200e6) - 1.0).abs() < 1e-9, "{share:?}");
    }

    #[test]
    fn calls_under_way_at_a_cut_do_not_cut_again() {
        let cut = Share::refused(None, 1e6, 0.5e6);
        assert_eq!(Share::refused(cut, 2e6, 0.9e6), None);
        let again = Share::refused(cut, 2e6, 1.5e6).unwrap();
        assert!(again.low < 0.7, "{again:?}");
    }
}
