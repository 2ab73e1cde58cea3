//! Ids of tool calls. A conversation may go on at another provider, so each takes the others'.

/// Parts an id from the signature it carries; no provider's own id contains it.
const MARK: char = '~';

/// The most characters of an id that every provider takes.
const LONGEST: usize = 40;

/// An id that carries a signature its provider wants back with the tool's answer.
pub(super) fn with_signature(id: &str, signature: &str) -> String {
    if signature.is_empty() { id.to_owned() } else { format!("{id}{MARK}{signature}") }
}

/// The signature an id carries.
pub(super) fn signature(id: &str) -> Option<&str> {
    id.split_once(MARK).map(|(_, signature)| signature)
}

/// The id in characters and in a length that every provider takes. Its end is kept: there stands
/// what tells the calls of one answer apart.
pub(super) fn portable(id: &str) -> String {
    let id = id.split(MARK).next().unwrap_or_default();
    let plain: Vec<char> =
        id.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
    plain.iter().skip(plain.len().saturating_sub(LONGEST)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_signature_and_travels_without_it() {
        let id = with_signature("Vr-Fau_0", "CrEB+/=");
        assert_eq!(signature(&id), Some("CrEB+/="));
        assert_eq!(portable(&id), "Vr-Fau_0");
        assert_eq!(with_signature("a", ""), "a");
        assert_eq!(signature("call_1"), None);
        assert_eq!(portable("functions.get:0"), "functionsget0");
        assert_eq!(portable(&format!("{}_7", "x".repeat(60))).len(), 40);
    }
}
