//! What is wrong with the settings, told in full and without secrets.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where: `accounts.claude-main.limits[0].requests`, a file or an environment variable.
    pub key: String,
    /// What is wrong there, and what is expected.
    pub problem: String,
}

/// Everything that is wrong, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes one more.
    pub(super) fn add(&mut self, key: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Fault { key: key.into(), problem: problem.into() });
    }

    /// Notes more, but nothing of a key that something is told of already: what was refused there
    /// is not missing too.
    pub(super) fn append(&mut self, more: Self) {
        let known: BTreeSet<String> = self.0.iter().map(|fault| fault.key.clone()).collect();
        self.0.extend(more.0.into_iter().filter(|fault| !known.contains(&fault.key)));
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

/// A key and a name below it; a name that is not bare is quoted, as in TOML.
pub(super) fn joined(key: &str, name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let name = if is_bare { name.to_owned() } else { format!("{name:?}") };
    if key.is_empty() { name } else { format!("{key}.{name}") }
}

/// `; did you mean …?` with the known name nearest to `name`, or a list of the known ones.
pub fn instead<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match (nearest(name, &known), known.is_empty()) {
        (Some(nearest), _) => format!("; did you mean `{nearest}`?"),
        (None, false) => format!("; known here: {}", listed(&known)),
        (None, true) => String::new(),
    }
}

/// The known name that `name` is most likely to mean, if it is like any.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let is_part = |part: &str, whole: &str| part.len() > 2 && whole.contains(part);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.chars().count() / 3).max(1)
                || is_part(name, candidate)
                || is_part(candidate, name)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `a, b and c`, each in backticks.
pub(super) fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_else_all_of_them() {
        assert_eq!(instead("listne", ["listen", "workers"]), "; did you mean `listen`?");
        assert_eq!(instead("zzz", ["a", "b"]), "; known here: `a` and `b`");
        assert_eq!(instead("zzz", []), "");
    }
}
