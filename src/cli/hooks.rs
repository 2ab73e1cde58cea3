//! `spillway hooks`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use chrono::{DateTime, Utc};
use clap::Subcommand;

use crate::callback::guard::Guard;
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::config::fault::instead;
use crate::domain::job::Callback;
use crate::engine::intake::Submission;
use crate::http::hooks::settings::Scheme;
use crate::http::hooks::{Handshake, Hook, Prepared, Refused, Request, Taken, handshake};

/// What to do with hooks.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the hooks of the settings.
    List,
    /// Shows what a hook would submit for a request. Nothing is sent or stored.
    Test(Test),
}

/// A request to try.
#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// The hook.
    name: String,

    /// A file with the request's body; `-` for standard input.
    #[arg(long)]
    body: PathBuf,

    /// A header of the request, such as `X-GitHub-Event: issues`. May be given several times.
    #[arg(long)]
    header: Vec<String>,

    /// The address's query, such as `a=b&c=d`.
    #[arg(long, default_value = "")]
    query: String,

    /// The body's type; a header `Content-Type` does the same.
    #[arg(long)]
    content_type: Option<String>,
}

/// Works on the settings alone.
pub(super) async fn run(
    loaded: Loaded,
    command: Command,
    out: &mut (impl Write + Send),
) -> Result<()> {
    match command {
        Command::List => list(&loaded, out),
        Command::Test(test) => try_out(&loaded, &test, out).await,
    }
}

fn list(loaded: &Loaded, out: &mut impl Write) -> Result<()> {
    if loaded.plan.hooks.is_empty() {
        return Ok(writeln!(out, "there are no hooks: the settings have no [hooks.NAME]")?);
    }
    writeln!(out, "{:<24} {:<16} {:<18} PATH", "NAME", "TASK", "AUTH")?;
    for hook in loaded.plan.hooks.values() {
        let (name, task, auth) = (&hook.name, &hook.task, hook.scheme().as_str());
        writeln!(out, "{name:<24} {task:<16} {auth:<18} /v1/hooks/{name}")?;
    }
    Ok(())
}

async fn try_out(loaded: &Loaded, test: &Test, out: &mut (impl Write + Send)) -> Result<()> {
    let hooks = &loaded.plan.hooks;
    let hook = hooks.get(&test.name).ok_or_else(|| {
        let hint = instead(&test.name, hooks.keys().map(String::as_str));
        anyhow!("there is no hook `{}`{hint}", test.name)
    })?;
    let request = request(test)?;
    let most = loaded.config.server.max_body.0;
    if request.body.len() > most {
        bail!("the event would be refused: its body may have {most} bytes (`server.max_body`)");
    }
    let now = SystemClock.now();
    writeln!(out, "hook       {} → task {}", hook.name, hook.task)?;
    let known = sender(hook, &request, now);
    writeln!(
        out,
        "auth       {}",
        known.as_ref().map_or_else(|why| format!("REFUSED: {why}"), Clone::clone)
    )?;
    match handshake(hook, &request) {
        Some(handshake) => show_handshake(&handshake, out)?,
        None => show_event(loaded, hook, &request, now, out).await?,
    }
    if let Err(why) = known {
        bail!("the request would be refused with 401: {why}");
    }
    Ok(())
}

/// What a service gets that only looks whether somebody is there.
fn show_handshake(handshake: &Handshake, out: &mut impl Write) -> Result<()> {
    let answer = match handshake {
        Handshake::Ping => "well: GitHub's ping",
        Handshake::Echo(text) | Handshake::Challenge(text) => text,
    };
    Ok(writeln!(out, "handshake  no job; answered {answer}")?)
}

async fn show_event(
    loaded: &Loaded,
    hook: &Hook,
    request: &Request,
    now: DateTime<Utc>,
    out: &mut (impl Write + Send),
) -> Result<()> {
    let task = loaded.plan.tasks.get(&hook.task).context("the hook's task is not offered here")?;
    let prepared = hook.prepare(request, task, &loaded.config.server, now).await;
    let Prepared { taken, key, warnings } =
        prepared.map_err(|problem| anyhow!("the event would be refused: {problem}"))?;
    let callback = match &taken {
        Taken::Nothing(why) => {
            writeln!(out, "event      ignored: {why}; answered well")?;
            None
        }
        Taken::One(job) => {
            show(job, out)?;
            job.callback.as_ref()
        }
        Taken::Many(group) => {
            writeln!(out, "event      a list: a group of {} jobs", group.jobs.len())?;
            for job in &group.jobs {
                show(job, out)?;
            }
            group.callback.as_ref()
        }
    };
    if !matches!(taken, Taken::Nothing(_)) {
        show_whole(hook, callback, key.as_deref(), out)?;
    }
    for warning in warnings {
        writeln!(out, "warning    {warning}")?;
    }
    let settings = &loaded.config.callbacks;
    let guard = Guard::new(settings.allow_networks.clone(), settings.allow_http);
    if let Some(callback) = callback {
        guard.admit_resolved(&callback.url).await.context("the event would be refused")?;
    }
    Ok(())
}

fn show(job: &Submission, out: &mut impl Write) -> Result<()> {
    writeln!(out, "input      {}", job.input)?;
    let texts = [("workflow", job.workflow.as_deref()), ("session", job.session.as_deref())];
    for (name, text) in texts {
        if let Some(text) = text {
            writeln!(out, "{name:<10} {text}")?;
        }
    }
    if let Some(metadata) = &job.metadata {
        writeln!(out, "metadata   {metadata}")?;
    }
    if let Some(lane) = job.lane {
        writeln!(out, "lane       {}", lane.as_str())?;
    }
    if let Some(by) = job.deliver_by {
        writeln!(out, "deliver by {}", by.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))?;
    }
    Ok(())
}

fn show_whole(
    hook: &Hook,
    callback: Option<&Callback>,
    key: Option<&str>,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, "key        {}", key.unwrap_or("none: a repetition would run again"))?;
    match callback {
        Some(callback) => writeln!(out, "callback   {}", callback.redacted())?,
        None => writeln!(out, "callback   none: the result is polled")?,
    }
    let caller = hook.caller.as_deref().unwrap_or("the API key's");
    writeln!(out, "caller     {caller}")?;
    Ok(())
}

/// Whether the sender would be known. Without anything that could prove it, that is not checked.
fn sender(hook: &Hook, request: &Request, now: DateTime<Utc>) -> Result<String, Refused> {
    let scheme = hook.scheme();
    match hook.check_sender(request, now) {
        _ if scheme == Scheme::Open => Ok("open: anybody may send".to_owned()),
        _ if scheme == Scheme::Bearer => Ok("not checked: an API key, as for /v1/jobs".to_owned()),
        Ok(()) => Ok(format!("right ({})", scheme.as_str())),
        Err(missing @ Refused::Missing(_)) => {
            Ok(format!("not checked ({}): {missing}", scheme.as_str()))
        }
        Err(why) => Err(why),
    }
}

fn request(test: &Test) -> Result<Request> {
    let mut headers = BTreeMap::new();
    for header in &test.header {
        let (name, value) =
            header.split_once(':').with_context(|| format!("`{header}` is not `Name: value`"))?;
        // The service takes the first, too.
        let name = name.trim().to_ascii_lowercase();
        headers.entry(name).or_insert_with(|| value.trim().to_owned());
    }
    if let Some(kind) = &test.content_type {
        headers.insert("content-type".to_owned(), kind.clone());
    }
    let query = url::form_urlencoded::parse(test.query.trim_start_matches('?').as_bytes());
    Ok(Request { headers, query: query.into_owned().collect(), body: read(&test.body)?.into() })
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}
