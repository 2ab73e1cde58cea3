//! Progress as people like to watch it: a bar for each workflow on a terminal, plain lines
//! elsewhere.

use std::collections::BTreeMap;
use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how many results each workflow has.
pub struct Screen<'a> {
    rows: BTreeMap<String, Row>,
    look: Look<'a>,
    done: usize,
    total: usize,
}

struct Row {
    done: usize,
    total: usize,
    bar: Option<ProgressBar>,
}

/// How progress looks.
enum Look<'a> {
    Bars(MultiProgress),
    Lines(&'a mut (dyn Write + Send)),
}

/// In lines, progress is told each time so many tenths of all results are in.
const TENTHS: usize = 10;

impl<'a> Screen<'a> {
    /// Bars, drawn on a terminal.
    pub fn bars(totals: &[(&str, usize)], target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let style =
            ProgressStyle::with_template("  {prefix:18} {bar:40.cyan} {pos:>4} of {len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let mut screen = Self::new(totals, Look::Bars(all.clone()));
        // In the order given, not in that of the map.
        for (name, total) in totals {
            let length = u64::try_from(*total).unwrap_or(u64::MAX);
            let bar = ProgressBar::new(length).with_style(style.clone());
            let bar = all.add(bar.with_prefix((*name).to_owned()));
            bar.tick();
            if let Some(row) = screen.rows.get_mut(*name) {
                row.bar = Some(bar);
            }
        }
        screen
    }

    /// Plain lines.
    pub fn lines(totals: &[(&str, usize)], out: &'a mut (dyn Write + Send)) -> Self {
        Self::new(totals, Look::Lines(out))
    }

    fn new(totals: &[(&str, usize)], look: Look<'a>) -> Self {
        let row = |total: usize| Row { done: 0, total, bar: None };
        let rows = totals.iter().map(|(name, total)| ((*name).to_owned(), row(*total))).collect();
        let total = totals.iter().map(|(_, total)| total).sum();
        Self { rows, look, done: 0, total }
    }

    /// Says a sentence above the bars, or as a line.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        match &mut self.look {
            Look::Bars(all) => all.println(text),
            Look::Lines(out) => writeln!(out, "{text}"),
        }
    }

    /// Shows that this many results of a workflow are in.
    pub fn show(&mut self, workflow: &str, done: usize) -> io::Result<()> {
        let Some(row) = self.rows.get_mut(workflow) else { return Ok(()) };
        let done = done.min(row.total);
        let before = (self.done, row.done);
        self.done = self.done + done - row.done.min(done);
        row.done = done.max(row.done);
        if let Some(bar) = &row.bar {
            bar.set_position(u64::try_from(row.done).unwrap_or(u64::MAX));
        }
        let finished = row.done == row.total && before.1 < row.total;
        if let Look::Lines(out) = &mut self.look {
            let tenth = |count: usize| count * TENTHS / self.total.max(1);
            if tenth(self.done) > tenth(before.0) {
                writeln!(out, "  {:>4} of {} results are in", self.done, self.total)?;
            }
            if finished {
                writeln!(out, "       all {} of {workflow}", row.total)?;
            }
        }
        Ok(())
    }

    /// Whether all results are in.
    pub const fn is_complete(&self) -> bool {
        self.done >= self.total
    }

    /// Leaves the bars as they stand.
    pub fn close(&mut self) {
        for bar in self.rows.values().filter_map(|row| row.bar.as_ref()) {
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: [(&str, usize); 2] = [("b", 10), ("a", 30)];

    #[test]
    fn lines_tell_each_tenth_and_each_finished_workflow() {
        let mut out = Vec::new();
        let mut screen = Screen::lines(&TOTALS, &mut out);
        screen.say("The burst is in.").unwrap();
        for count in 1..=10 {
            screen.show("b", count).unwrap();
        }
        screen.show("a", 3).unwrap();
        screen.show("unheard of", 3).unwrap();
        assert!(!screen.is_complete());
        screen.show("a", 30).unwrap();
        assert!(screen.is_complete());
        let text = String::from_utf8(out).unwrap();
        let expected = "The burst is in.\n     4 of 40 results are in\n     8 of 40 results are in\n\
             \x20      all 10 of b\n    13 of 40 results are in\n    40 of 40 results are in\n\
             \x20      all 30 of a\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn bars_follow_the_counts() {
        let mut screen = Screen::bars(&TOTALS, ProgressDrawTarget::hidden());
        screen.show("a", 12).unwrap();
        screen.show("a", 7).unwrap();
        let position = |name: &str| screen.rows.get(name).unwrap().bar.as_ref().unwrap().position();
        assert_eq!((position("a"), position("b")), (12, 0));
        screen.close();
    }
}
