//! What every plan that waits for an approval has in common: an id, what it rests on, and how a
//! person is asked. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::sealed::sha256;
use crate::words;

/// Enough that two plans of one second never meet, short enough to be typed.
const DIGEST_CHARS: usize = 12;

/// Name and value of everything that may not change between plan and deed.
pub type Basis = BTreeMap<String, String>;

/// The time, and a digest of everything the plan depends on.
pub fn plan_id(basis: &Basis, now: Timestamp) -> String {
    let mut text = now.to_string();
    for (name, value) in basis {
        // Lengths keep two neighbours from being read as two others.
        text.push_str(&format!("\n{} {name} {} {value}", name.len(), value.len()));
    }
    let digest = sha256(text.as_bytes());
    let digest = &digest[..DIGEST_CHARS];
    format!("{}-{digest}", now.strftime("%Y%m%dT%H%M%SZ"))
}

/// When a plan was made, to the second, as its id says.
pub fn planned_at(plan_id: &str) -> Option<Timestamp> {
    let (at, _digest) = plan_id.split_once('-')?;
    let at = DateTime::strptime("%Y%m%dT%H%M%SZ", at).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// What is different now, each in words; nothing when all is as it was planned.
pub fn changes(planned: &Basis, now: &Basis) -> Vec<String> {
    let names: BTreeSet<&String> = planned.keys().chain(now.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| planned.get(*name) != now.get(*name));
    let say = |value: Option<&String>| match value {
        // A digest says nothing to anybody.
        Some(value) if value.len() == 64 && value.chars().all(|c| c.is_ascii_hexdigit()) => None,
        value => Some(value.map_or("nothing", String::as_str).to_owned()),
    };
    changed
        .map(|name| match (say(planned.get(name)), say(now.get(name))) {
            (Some(was), Some(is)) => format!("{name}: it was {was}, and is {is} now"),
            _ => format!("{name}: not the same as when it was planned"),
        })
        .collect()
}

/// How a decision is sent.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    pub function: &'a str,
    pub region: &'a str,
}

impl Reach<'_> {
    fn command(self, event: &str) -> String {
        format!(
            "aws lambda invoke --function-name {} --region {} --cli-binary-format raw-in-base64-out --payload {} /dev/stdout",
            self.function,
            self.region,
            quoted(event)
        )
    }
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// All that whoever decides has to know. Never the task token.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What waits, and what is changed until then.
    pub opening: &'a str,
    /// The whole plan, without how to approve it.
    pub plan: &'a str,
    /// To be typed out: what is typed out has been thought about.
    pub name: &'a str,
    /// To be completed with two names, and with one.
    pub approve: &'a str,
    pub refuse: &'a str,
    pub reach: Reach<'a>,
    pub expires_at: Timestamp,
    pub execution: &'a str,
}

impl Question<'_> {
    pub fn text(&self, now: Timestamp) -> String {
        let Self { reach, name, .. } = self;
        format!(
            "{}\n\n\
             {}\n\n\
             Decide before {} ({} from now). After that the plan is worthless, and a new one has to be made.\n\n\
             To APPROVE, open the function {} in the Lambda console, tab Test, and send this with your name, and with {name} typed out where it says so:\n    {}\n\
             or from a shell:\n    {}\n\n\
             To REFUSE:\n    {}\n\
             or from a shell:\n    {}\n\n\
             It is done once, exactly as it stands here. If anything it rests on changes before, it is refused and says what changed.\n\
             The execution: {}\n",
            self.opening,
            self.plan,
            words::time(self.expires_at),
            words::duration(self.expires_at.duration_since(now)),
            reach.function,
            self.approve,
            reach.command(self.approve),
            self.refuse,
            reach.command(self.refuse),
            self.execution,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis(pairs: &[(&str, &str)]) -> Basis {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_plan_is_named_by_its_time_and_all_it_depends_on() {
        let now = "2026-11-21T03:05:01Z".parse().unwrap();
        let named = plan_id(&basis(&[("a", "b"), ("c", "d")]), now);
        assert!(named.starts_with("20261121T030501Z-"), "{named}");
        assert_eq!(planned_at(&named), Some(now));
        assert_eq!(planned_at("20261121-x"), None);
        for other in [
            &[("a", "b")][..],
            &[("a", "b"), ("c", "e")],
            &[("a", "bc"), ("", "d")],
        ] {
            assert_ne!(named, plan_id(&basis(other), now));
        }
    }

    #[test]
    fn a_command_survives_a_name_with_a_quote() {
        let reach = Reach {
            function: "f",
            region: "r",
        };
        let command = reach.command(r#"{"a":"it's"}"#);
        assert!(
            command.ends_with(r#"--payload '{"a":"it'\''s"}' /dev/stdout"#),
            "{command}"
        );
    }
}
