//! Why Redis did not do what it was asked, and what that says about who answers.

use std::time::Duration;

use redis::RedisError;

/// Why Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KeyspaceError {
    /// No connection, or no answer in time. Waiting may help.
    #[error("Redis is not reachable: {0}")]
    Unreachable(String),
    /// Redis is out of memory (`maxmemory`).
    #[error("Redis is out of memory")]
    OutOfMemory,
    /// Redis refused the command or answered what we do not understand.
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// Refusals by a server that is not the master of our keys, or not for now.
const NOT_THE_MASTER: [&str; 8] =
    ["READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "LOADING", "NOREPLICAS", "UNBLOCKED"];

/// Other refusals that pass: Redis is busy, moves our keys, cannot write for now, or lost a script
/// that is loaded anew by the next call.
const PASSING: [&str; 4] = ["BUSY", "TRYAGAIN", "MISCONF", "NOSCRIPT"];

/// Whether Redis refused with one of these codes. Redis before 7 wraps what stopped a script into an
/// error of its own.
fn said(error: &RedisError, codes: &[&str]) -> bool {
    let Some(errors) = error.clone().into_server_errors() else {
        return false;
    };
    errors.iter().any(|(_, fault)| {
        let details = fault.details().unwrap_or_default();
        codes.iter().any(|code| fault.code() == *code || details.contains(&format!("-{code} ")))
    })
}

impl From<RedisError> for KeyspaceError {
    fn from(error: RedisError) -> Self {
        if said(&error, &["OOM"]) {
            return Self::OutOfMemory;
        }
        if error.is_io_error()
            || error.is_unrecoverable_error()
            || said(&error, &NOT_THE_MASTER)
            || said(&error, &PASSING)
        {
            return Self::Unreachable(error.to_string());
        }
        Self::Refused(error.to_string())
    }
}

/// Why to ask who the master is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Whom we took for it does not answer.
    Silent,
    /// Whom we took for it says that it is not, or not now.
    Denied,
    /// Whom we took for it says that it is a replica.
    Demoted,
}

/// Why an answer did not come.
pub(super) enum Late {
    Redis(RedisError),
    All(Duration),
}

impl Late {
    /// Whether Redis kept silent, rather than said no.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Redis(fault) => fault.is_timeout(),
            Self::All(_) => true,
        }
    }

    /// What it says about who answers.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        match self {
            Self::All(_) => Some(Doubt::Silent),
            Self::Redis(fault) if fault.is_io_error() => Some(Doubt::Silent),
            Self::Redis(fault) if said(fault, &["READONLY"]) => Some(Doubt::Demoted),
            Self::Redis(fault) => said(fault, &NOT_THE_MASTER).then_some(Doubt::Denied),
        }
    }
}

impl From<Late> for KeyspaceError {
    fn from(late: Late) -> Self {
        match late {
            Late::Redis(fault) => fault.into(),
            Late::All(limit) => Self::Unreachable(format!("no answer within {limit:?}")),
        }
    }
}

/// Whether a server says that our keys are elsewhere in its cluster.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    said(error, &["MOVED"])
}

/// Whether a server asks for a password.
pub(super) fn asks_for_password(error: &RedisError) -> bool {
    said(error, &["NOAUTH"])
}

/// Whether the command is not allowed to us.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    said(error, &["NOPERM"])
}

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    fn answered(text: &str) -> RedisError {
        let value = parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        let Err(fault) = value.extract_error() else { panic!("no error: {text}") };
        fault
    }

    #[test]
    fn a_server_that_is_no_longer_the_master_is_passing_and_doubted() {
        for text in [
            "MOVED 13907 10.0.0.7:6379",
            "ASK 13907 10.0.0.7:6379",
            "CLUSTERDOWN The cluster is down",
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "UNBLOCKED force unblock from blocking operation, instance state changed",
            "ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write",
        ] {
            let late = Late::Redis(answered(text));
            let demoted = text.contains("READONLY");
            let doubt = if demoted { Doubt::Demoted } else { Doubt::Denied };
            assert_eq!(late.doubt(), Some(doubt), "{text}");
            assert!(matches!(KeyspaceError::from(late), KeyspaceError::Unreachable(_)), "{text}");
        }
    }

    #[test]
    fn what_redis_will_always_refuse_is_told_apart() {
        for text in ["ERR unknown command", "WRONGTYPE Operation against a key", "NOPERM no"] {
            let late = Late::Redis(answered(text));
            assert_eq!(late.doubt(), None, "{text}");
            assert!(matches!(KeyspaceError::from(late), KeyspaceError::Refused(_)), "{text}");
        }
        let full = answered("OOM command not allowed when used memory > 'maxmemory'.");
        assert!(matches!(KeyspaceError::from(full), KeyspaceError::OutOfMemory));
    }

    #[test]
    fn a_pipeline_is_judged_by_each_of_its_answers() {
        let moved = |text: &str| parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        let answers = vec![Value::Okay, moved("NOREPLICAS Not enough good replicas to write.")];
        let Err(fault) = Value::Array(answers).extract_error() else { panic!("no error") };
        assert!(matches!(KeyspaceError::from(fault), KeyspaceError::Unreachable(_)));
    }
}
