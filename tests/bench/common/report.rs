//! The report: tables as the parts end, and at the end whether the aims were met.

use std::io::{Stdout, Write};
use std::time::Duration;

use anyhow::Result;

/// Writes tables and remembers aims.
pub(crate) struct Report {
    out: Stdout,
    aims: Vec<String>,
}

impl Report {
    /// Writes to `out`.
    pub(crate) const fn new(out: Stdout) -> Self {
        Self { out, aims: Vec::new() }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Holds what was found, and whether that is enough, against an aim.
    pub(crate) fn aim(&mut self, what: &str, found: Option<(String, bool)>) {
        let (mark, found) = match found {
            Some((found, true)) => ("met", found),
            Some((found, false)) => ("missed", found),
            None => ("not measured", String::new()),
        };
        self.aims.push(format!("{mark:<12}  {what}: {found}"));
    }

    /// Tells which aims were met.
    pub(crate) fn aims(&mut self) -> Result<()> {
        self.line("\nAims")?;
        for aim in std::mem::take(&mut self.aims) {
            self.line(aim.trim_end_matches(": "))?;
        }
        Ok(())
    }
}

/// A time in milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Of a million bytes each.
#[expect(clippy::cast_precision_loss, reason = "a process has less than 2^53 bytes")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
