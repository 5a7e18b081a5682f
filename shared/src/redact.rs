//! What a message must not carry: secrets and row content.
//!
//! Our own errors hold neither. This is for what drivers, servers and libraries put into
//! theirs. In doubt too much is taken out, never too little.

use std::sync::LazyLock;

use regex_lite::Regex;

/// What to look for, and what is left of it.
const RULES: [(&str, &str); 9] = [
    // A URL's password, up to the last @ of the word: passwords may hold @ and /.
    (r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/@]*):\S*@", "$1:***@"),
    (r"(?i)AGE-SECRET-KEY-[a-z0-9-]*", "AGE-SECRET-KEY-***"),
    (r"\b(AKIA|ASIA)[A-Z0-9]{8,}", "$1***"),
    // password=…, PGPASSWORD='…', X-Amz-Signature=…
    (
        r#"(?i)((?:password|passwd|secret_?access_?key|session_?token|security-token|signature|api_?key)"?\s*=\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"'&,;]+)"#,
        "$1***",
    ),
    // "secretAccessKey": "…"; without quotes it is prose.
    (
        r#"(?i)((?:password|passwd|secret_?access_?key|session_?token|security-token|signature|api_?key)"?\s*:\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"#,
        "$1***",
    ),
    // What PostgreSQL says of rows, each to the last bracket or quote, since values hold those.
    (r"(?s)(Failing row contains )\(.*\)", "$1(***)"),
    (r"(?s)(Key \([^)]*\)=)\(.*\)", "$1(***)"),
    (r#"(?s)(COPY [^\n]*?, line \d+[^"\n]*: )".*""#, "$1\"***\""),
    (r#"(?s)(invalid input [^"\n]*: )".*""#, "$1\"***\""),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let compile = |(pattern, kept)| {
        let pattern = Regex::new(pattern).expect("a fixed pattern: a test uses each");
        (pattern, kept)
    };
    RULES.into_iter().map(compile).collect()
});

/// The text without what nobody should read in a message, in printable characters.
pub fn redact(text: &str) -> String {
    let is_printable = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let printable = |c: char| if is_printable(c) { c } else { ' ' };
    let mut text: String = text.chars().map(printable).collect();
    for (pattern, kept) in COMPILED.iter() {
        text = pattern.replace_all(&text, *kept).into_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_canary_gets_through() {
        for text in [
            "connect to postgres://app:CANARY@db.example/app?sslmode=verify-full failed",
            "postgresql://app:CAN@CANARY/x@db.example",
            "postgresql://:CANARY@db",
            "{\"url\": \"postgres://app:CANARY@db\"}",
            "a postgres://u:CANARY@h and another postgres://v:CANARY@h2",
            "identity AGE-SECRET-KEY-1CANARYQQQQ is malformed",
            "age-secret-key-1canaryqqq",
            "AGE-SECRET-KEY-PQ-1CANARY",
            "signed with AKIACANARY0123456789",
            "ASIACANARY0123456789/20261121",
            "host=db password=CANARY user=app",
            "host=db password = 'CAN ARY CANARY' user=app",
            "PGPASSWORD=CANARY pg_dump",
            "{\"password\":\"CANARY\", \"x\": 1}",
            "{\"SecretAccessKey\": \"CANARY/x+\\\"CANARY\"}",
            "https://vault/key?X-Amz-Signature=CANARY&x=1",
            "x-amz-security-token: \"CANARY\"",
            "aws_session_token=CANARY",
            "DETAIL: Failing row contains (1, CANARY (and\nmore) CANARY).",
            "DETAIL: Key (email, name)=(CANARY, a) b CANARY) already exists.",
            "CONTEXT: COPY users, line 3: \"1\tCANARY \"CANARY\"\"",
            "COPY users, line 3, column id: \"CANARY\"",
            "invalid input syntax for type integer: \"CANARY\"",
        ] {
            let redacted = redact(text);
            let leaks = redacted.to_ascii_uppercase().contains("CANARY");
            assert!(!leaks, "{text}\n{redacted}");
            assert!(redacted.contains("***"), "{text}\n{redacted}");
        }
    }

    #[test]
    fn what_a_person_needs_stays() {
        for text in [
            "wrong password: put the right one into the secret lifeboat/database/app",
            "password authentication failed for user \"app\"",
            "connect to db.example:5432: connection refused",
            "see https://docs.example/a:b and mail ops@example.org",
            "arn:aws:states:eu-central-1:123456789012:execution:lifeboat-backup:a1",
            "postgres://app@db.example:5432/app",
            "permission denied for table \"Key\" (public.orders)",
            "public.a\npublic.b\tand more",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(redact("a\u{1b}[31mb\r\nc"), "a [31mb \nc");
    }
}
