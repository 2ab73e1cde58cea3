//! The tables of calls and of streamed tokens, and the aims of them.

use std::time::Duration;

use anyhow::Result;

use crate::common::figures::{CONNECTIONS, Run};
use crate::common::report::{Report, megabytes, milliseconds};
use crate::measure::Figures;
use crate::server::Kind;
use crate::tokens::Late;

const ALL: [Kind; 5] = [Kind::Direct, Kind::Local, Kind::Redis, Kind::Litellm, Kind::Portkey];

impl Report {
    /// The table of calls, and its aims.
    pub(crate) fn calls(&mut self, figures: &Figures) -> Result<()> {
        self.line(
            "\nconnections  server            calls/s  added p50 ms    p99 ms  CPU µs/call  in Redis  \
             memory MB",
        )?;
        for connections in CONNECTIONS {
            let direct = figures.runs.get(Kind::Direct, connections).map(|run| run.p50);
            for kind in ALL {
                let Some(run) = figures.runs.get(kind, connections) else { continue };
                let added = added(&run, direct.unwrap_or_default());
                let (name, rate, p99) = (kind.name(), run.rate, milliseconds(run.p99));
                let cpu = 1e3 * milliseconds(run.cpu);
                let redis = 1e3 * milliseconds(run.redis_cpu);
                let memory = megabytes(figures.memory(kind, connections));
                self.line(&format!(
                    "{connections:>11}  {name:<15}  {rate:>8.0}  {added:>12.3}  {p99:>8.2}  {cpu:>11.0}  \
                     {redis:>8.0}  {memory:>9.1}"
                ))?;
            }
        }
        for (kind, most) in [(Kind::Local, 0.12), (Kind::Redis, 0.25)] {
            self.aims_of(figures, kind, most);
        }
        Ok(())
    }

    fn aims_of(&mut self, figures: &Figures, kind: Kind, most: f64) {
        let get = |kind, connections| figures.runs.get(kind, connections);
        let name = kind.name();
        let one = get(kind, 1).zip(get(Kind::Direct, 1));
        let found = one.map(|(own, direct)| added(&own, direct.p50));
        self.aim(
            &format!("{name}: added p50 at one connection at most {most} ms"),
            found.map(|added| (format!("{added:.3} ms"), added <= most)),
        );
        for (other, times) in [(Kind::Litellm, 50.0), (Kind::Portkey, 6.0)] {
            let both = get(kind, 32).zip(get(other, 32));
            let cpu = |run: &Run| (run.cpu + run.redis_cpu).as_secs_f64();
            let found = both.map(|(own, other)| cpu(&other) / cpu(&own));
            self.aim(
                &format!(
                    "{name}: at least {times} times {}'s calls per CPU second (32 connections)",
                    other.name()
                ),
                found.map(|ratio| (format!("{ratio:.1}"), ratio >= times)),
            );
        }
        let p99 = get(kind, 256).map(|run| milliseconds(run.p99));
        self.aim(
            &format!("{name}: p99 at 256 connections under 40 ms"),
            p99.map(|p99| (format!("{p99:.1} ms"), p99 < 40.0)),
        );
    }

    /// The table of streamed tokens, and its aim.
    pub(crate) fn tokens(&mut self, found: &[(Kind, Late)]) -> Result<()> {
        self.line("\nHow late a streamed token is  p50 ms    p99 ms   most ms")?;
        for (kind, late) in found {
            let [p50, p99, most] = [late.p50, late.p99, late.most].map(milliseconds);
            self.line(&format!("{:<28}  {p50:>6.3}  {p99:>8.3}  {most:>8.3}", kind.name()))?;
        }
        for kind in [Kind::Local, Kind::Redis] {
            let late = found.iter().find(|(of, _)| *of == kind).map(|(_, late)| late);
            let p99 = late.map(|late| milliseconds(late.p99));
            self.aim(
                &format!("{}: a streamed token passed on within 1 ms (p99)", kind.name()),
                p99.map(|p99| (format!("{p99:.3} ms"), p99 <= 1.0)),
            );
        }
        Ok(())
    }
}

/// By how much the median call takes longer than straight at the provider.
fn added(run: &Run, direct: Duration) -> f64 {
    milliseconds(run.p50) - milliseconds(direct)
}
