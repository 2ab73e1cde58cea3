//! The Lua scripts, each behind the functions they share.

use redis::ScriptInvocation;

use crate::keyspace::{Keyspace, KeyspaceError, Script, script};

/// Every script, ready to be called.
pub(super) struct Scripts {
    pub(super) push: Script,
    pub(super) lease: Script,
    pub(super) renew: Script,
    pub(super) finish: Script,
    pub(super) settle: Script,
    pub(super) replay: Script,
    pub(super) sweep: Script,
    pub(super) purge: Script,
    pub(super) waiting: Script,
    pub(super) find: Script,
}

/// Lets a script run in a full Redis: without it a full queue could never be worked off.
const WHEN_FULL: &str = "#!lua flags=allow-oom\n";

const LINE: &str = include_str!("../lua/line.lua");
const MOVE: &str = include_str!("../lua/move.lua");

impl Scripts {
    /// `knows_flags`: whether the server reads flags in a script's first line (Redis 7).
    pub(super) fn new(knows_flags: bool) -> Self {
        let drain = |body: &str| {
            let flags = if knows_flags { WHEN_FULL } else { "" };
            script(&format!("{flags}{LINE}{MOVE}{body}"))
        };
        Self {
            push: script(&format!("{LINE}{}", include_str!("../lua/push.lua"))),
            lease: drain(include_str!("../lua/lease.lua")),
            renew: drain(include_str!("../lua/renew.lua")),
            finish: drain(include_str!("../lua/finish.lua")),
            settle: drain(include_str!("../lua/settle.lua")),
            replay: script(&format!("{LINE}{MOVE}{}", include_str!("../lua/replay.lua"))),
            sweep: drain(include_str!("../lua/sweep.lua")),
            purge: drain(include_str!("../lua/purge.lua")),
            waiting: drain(include_str!("../lua/waiting.lua")),
            find: drain(include_str!("../lua/find.lua")),
        }
    }

    /// Loads them, so that the first call of each needs no second round trip and a server that
    /// cannot run them is found out at the start.
    pub(super) async fn load(&self, keyspace: &Keyspace) -> Result<(), KeyspaceError> {
        let scripts = [
            &self.push,
            &self.lease,
            &self.renew,
            &self.finish,
            &self.settle,
            &self.replay,
            &self.sweep,
            &self.purge,
            &self.waiting,
            &self.find,
        ];
        for script in scripts {
            keyspace.load(script).await?;
        }
        Ok(())
    }
}

/// Begins a call: every script gets the cell as its one key.
pub(super) fn call<'a>(script: &'a Script, keyspace: &Keyspace) -> ScriptInvocation<'a> {
    script.key(keyspace.prefix())
}
