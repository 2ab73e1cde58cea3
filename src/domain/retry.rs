//! When to try again: a schedule written out, with jitter.

use std::time::Duration;

use super::units::Span;

/// Pauses between attempts. After the last one the matter is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(pub Vec<Span>);

/// The part of a pause that chance decides.
const JITTER: f64 = 0.2;

impl Schedule {
    /// How long to pause after `failures` failed attempts (at least one); `None` when it is time
    /// to give up. `chance` is between 0 and 1. A receiver's own `retry_after` lengthens the
    /// pause, up to a day, and never shortens it.
    pub fn pause(
        &self,
        failures: u32,
        chance: f64,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let index = usize::try_from(failures.checked_sub(1)?).ok()?;
        let span = self.0.get(index)?.0;
        let jittered = span.mul_f64(1.0 - JITTER / 2.0 + JITTER * chance.clamp(0.0, 1.0));
        let asked = retry_after.unwrap_or_default().min(Duration::from_secs(86_400));
        Some(jittered.max(asked))
    }
}

impl Default for Schedule {
    /// Fast at first, because a receiver such as n8n's Wait node may not be waiting yet and
    /// answers 409 for a moment; then often for two minutes, in which one that is started again is
    /// back; then by the Standard Webhooks example over three days.
    fn default() -> Self {
        const FIRST_MS: [u64; 6] = [100, 200, 400, 800, 1_600, 3_200];
        const AGAIN_S: [u64; 18] = [5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 10, 10, 10, 10, 10, 10];
        const S: [u64; 10] = [30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        let first = FIRST_MS.into_iter().map(Span::millis);
        Self(first.chain(AGAIN_S.into_iter().chain(S).map(Span::secs)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_stay_near_the_schedule_and_honour_the_receiver(
            failures in 1u32..35, chance in 0.0f64..1.0, asked in 0u64..100_000,
        ) {
            let schedule = Schedule::default();
            let base = schedule.0[failures as usize - 1].0;
            let alone = schedule.pause(failures, chance, None).unwrap();
            prop_assert!(alone >= base.mul_f64(0.9) && alone <= base.mul_f64(1.1));
            let told = schedule.pause(failures, chance, Some(Duration::from_secs(asked))).unwrap();
            prop_assert!(told >= alone && told >= Duration::from_secs(asked.min(86_400)));
        }
    }

    #[test]
    fn a_receiver_that_is_started_again_is_soon_found_back() {
        let schedule = Schedule::default();
        let (mut since, mut failures) = (Duration::ZERO, 0);
        while since < Duration::from_secs(120) {
            failures += 1;
            let pause = schedule.pause(failures, 0.5, None).unwrap();
            let most = if since < Duration::from_secs(60) { 5 } else { 10 };
            assert!(pause <= Duration::from_secs(most), "{pause:?} after {since:?}");
            since += pause;
        }
        assert!(failures < 30, "and is not stormed");
    }

    #[test]
    fn the_schedule_ends() {
        assert!(Schedule::default().pause(34, 0.5, None).is_some());
        assert_eq!(Schedule::default().pause(35, 0.5, None), None);
        assert_eq!(Schedule(vec![]).pause(1, 0.5, None), None);
    }
}
