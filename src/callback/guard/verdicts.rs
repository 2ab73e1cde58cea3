//! What the name service said of a host a moment ago, so that a burst of jobs with one callback
//! host asks once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::Refusal;

/// How long a verdict holds.
const KEPT: Duration = Duration::from_secs(60);
/// How many hosts are remembered.
const HOSTS: usize = 1_024;

type Verdict = Arc<OnceCell<Result<(), Refusal>>>;

/// Verdicts by host. Those who ask for a host at the same time wait for one answer.
#[derive(Default)]
pub(super) struct Verdicts(Mutex<HashMap<String, (Instant, Verdict)>>);

impl Verdicts {
    /// The verdict on this host, from `ask` when none is fresh.
    pub(super) async fn get<F: Future<Output = Result<(), Refusal>>>(
        &self,
        host: &str,
        now: Instant,
        ask: impl FnOnce() -> F,
    ) -> Result<(), Refusal> {
        self.at(host, now).get_or_init(ask).await.clone()
    }

    fn at(&self, host: &str, now: Instant) -> Verdict {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |since: &Instant| now.saturating_duration_since(*since) < KEPT;
        if let Some((_, verdict)) = known.get(host).filter(|(since, _)| fresh(since)) {
            return Arc::clone(verdict);
        }
        if known.len() >= HOSTS {
            known.retain(|_, (since, _)| fresh(since));
        }
        if known.len() >= HOSTS {
            // Whoever names a thousand hosts a minute pays with questions, not we with memory.
            known.clear();
        }
        let verdict = Verdict::default();
        known.insert(host.to_owned(), (now, Arc::clone(&verdict)));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_verdict_holds_for_a_minute() {
        let (verdicts, asked) = (Verdicts::default(), Cell::new(0));
        let ask = || async {
            asked.set(asked.get() + 1);
            Err(Refusal::Resolved("x".to_owned()))
        };
        let start = Instant::now();
        for (after, expected) in [(0, 1), (59, 1), (60, 2), (61, 2)] {
            let now = start + Duration::from_secs(after);
            assert!(verdicts.get("x", now, ask).await.is_err());
            assert_eq!(asked.get(), expected, "after {after} s");
        }
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let verdicts = Verdicts::default();
        let now = Instant::now();
        for host in 0..3 * HOSTS {
            verdicts.get(&host.to_string(), now, || async { Ok(()) }).await.unwrap();
            assert!(verdicts.0.lock().unwrap().len() <= HOSTS);
        }
    }
}
