//! The report: a table as each part ends, the aims at the end, and all of it as JSON.

use std::io::{Stdout, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Writes tables and remembers figures and aims.
pub(crate) struct Report {
    out: Stdout,
    machine: Value,
    runs: Vec<Value>,
    aims: Vec<Aim>,
    failures: Vec<Value>,
}

struct Aim {
    part: &'static str,
    what: String,
    found: String,
    met: bool,
}

/// A line of a table: what is told under each heading.
pub(crate) type Row = Vec<String>;

impl Report {
    /// Writes to `out`.
    pub(crate) const fn new(out: Stdout) -> Self {
        Self { out, machine: Value::Null, runs: Vec::new(), aims: Vec::new(), failures: Vec::new() }
    }

    /// What it runs on.
    pub(crate) fn machine(&mut self, cores: usize, redis: &str, load: &str) -> Result<()> {
        let load: f64 = load.parse()?;
        self.machine = json!({ "cores": cores, "redis": redis, "load_before": load });
        Ok(())
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Writes a table; its first column is on the left, the others are on the right.
    pub(crate) fn table(&mut self, title: &str, head: &[&str], rows: &[Row]) -> Result<()> {
        let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let laid_out = |cells: &[&str]| -> String {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ")
        };
        self.line(&format!("\n{title}\n{}", laid_out(head)))?;
        for row in rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            self.line(&laid_out(&cells))?;
        }
        Ok(())
    }

    /// Remembers a run's figures.
    pub(crate) fn figures(&mut self, part: &'static str, figures: Value) {
        let mut named = Map::from_iter([("part".to_owned(), Value::from(part))]);
        if let Value::Object(figures) = figures {
            named.extend(figures);
        }
        self.runs.push(Value::Object(named));
    }

    /// Holds a figure against its aim.
    pub(crate) fn aim(&mut self, part: &'static str, what: String, found: String, met: bool) {
        self.aims.push(Aim { part, what, found, met });
    }

    /// A part that did not work.
    pub(crate) fn failed(&mut self, part: &'static str, why: &str) -> Result<()> {
        self.line(&format!("\n{part} did not work: {why}"))?;
        self.failures.push(json!({ "part": part, "why": why }));
        Ok(())
    }

    /// Tells which aims were met and writes the file; whether everything is well.
    pub(crate) fn conclude(mut self, file: Option<&Path>) -> Result<bool> {
        if !self.aims.is_empty() {
            self.line("\nAims")?;
        }
        for aim in &self.aims {
            let mark = if aim.met { "pass" } else { "FAIL" };
            writeln!(self.out, "{mark}  {:<11}  {}: {}", aim.part, aim.what, aim.found)?;
        }
        let passed = self.failures.is_empty() && self.aims.iter().all(|aim| aim.met);
        if let Some(file) = file {
            let aims = self.aims.iter().map(|aim| {
                json!({ "part": aim.part, "aim": aim.what, "found": aim.found, "met": aim.met })
            });
            let all = json!({
                "passed": passed, "machine": self.machine, "aims": aims.collect::<Vec<_>>(),
                "runs": self.runs, "failures": self.failures,
            });
            let text = serde_json::to_string_pretty(&all)?;
            std::fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
        }
        Ok(passed)
    }
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
