//! `${VAR}` and `${VAR:-default}` in the strings of a configuration.
//!
//! Runs after TOML has been parsed, so a value can hold quotes and newlines without breaking out of
//! its string. `$${` stands for a plain `${`; any other `$` is itself.

/// Expands `text`, or says what is wrong with it and what to do.
pub(super) fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, (String, String)> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        let end = from.find('}').ok_or_else(unclosed)?;
        out.push_str(before);
        out.push_str(&value(&from[2..end], variable)?);
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn unclosed() -> (String, String) {
    ("a ${ without its }".into(), "close it, or write $${ for a plain ${".into())
}

/// As the shell has it: the default stands in for a variable that is unset or empty.
fn value(
    inner: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, (String, String)> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        let cause = format!("${{{inner}}} does not name a variable");
        return Err((cause, "write ${NAME} or ${NAME:-default}".into()));
    }
    match (variable(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let cause = format!("the environment has no {name}");
            Err((cause, format!("set {name}, or give a default: ${{{name}:-default}}")))
        }
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(plain) && !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let variable = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOME}".to_owned()),
            _ => None,
        };
        expand(text, &variable).map_err(|(cause, _)| cause)
    }

    #[test]
    fn variables_expand_once() {
        let check = |text, value: &str| assert_eq!(expanded(text).as_deref(), Ok(value), "{text}");
        check("", "");
        check("/plain", "/plain");
        check("${HOME}/x/${HOME}", "/root/x//root");
        check("${GONE:-/mnt}/x", "/mnt/x");
        check("${EMPTY:-d}", "d");
        check("${EMPTY}", "");
        check("${GONE:-}", "");
        check("${NESTED}", "${HOME}");
        check("$HOME $ $$", "$HOME $ $$");
        check("$${HOME}", "${HOME}");
        check("é${HOME}é", "é/rooté");
    }

    #[test]
    fn what_cannot_expand_is_refused() {
        let check = |text, cause: &str| assert_eq!(expanded(text), Err(cause.into()), "{text}");
        check("${GONE}", "the environment has no GONE");
        check("x${HOME", "a ${ without its }");
        check("${}", "${} does not name a variable");
        check("${1X}", "${1X} does not name a variable");
        check("${HO ME}", "${HO ME} does not name a variable");
    }
}
