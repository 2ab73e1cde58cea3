//! A child process: ended with its value or with this process, its CPU and memory read from
//! `/proc`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// One child.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    started: Instant,
    patience: Duration,
}

/// The length of `/proc`'s ticks: `USER_HZ` is 100 on every machine Linux runs on that Redis does.
const TICK: Duration = Duration::from_millis(10);

impl Process {
    /// Starts a program; what it prints goes to the file `log`.
    pub(crate) fn start<S: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Result<Self> {
        let file = File::create(log)?;
        let started = Instant::now();
        // A benchmark that is killed leaves no child behind: setpriv asks the kernel to end it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("setpriv")?;
        Ok(Self { child, log: log.to_owned(), started, patience: Duration::from_secs(20) })
    }

    /// The same, waited for so long after its start.
    pub(crate) const fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Waits until `holds`; tells how long after the start that was.
    pub(crate) fn wait_until(&mut self, mut holds: impl FnMut() -> bool) -> Result<Duration> {
        while !holds() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || self.started.elapsed() > self.patience {
                let said = fs::read_to_string(&self.log)?;
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                let what = if ended.is_some() { "it ended" } else { "it did not get ready" };
                bail!("{what}; its last words, latest first: {}", last.join(" | "));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.started.elapsed())
    }

    /// Waits until it has printed a line that begins so, and gives the rest of the line.
    pub(crate) fn wait_for_line(&mut self, beginning: &str) -> Result<String> {
        let (log, mut found) = (self.log.clone(), None);
        self.wait_until(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            // A line without its end may not be whole yet.
            let whole = said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            found = whole.filter_map(|line| line.strip_prefix(beginning)).map(str::to_owned).next();
            found.is_some()
        })?;
        found.context("the line has gone")
    }

    /// The CPU time it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may itself hold blanks and parentheses.
        let (_, after_name) = stat.rsplit_once(')').context("no name in /proc's stat")?;
        let ticks = after_name.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.map(str::parse::<u32>).sum::<Result<_, _>>()?;
        Ok(TICK * ticks)
    }

    /// The bytes of memory it holds.
    pub(crate) fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line.context("no VmRSS")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}
