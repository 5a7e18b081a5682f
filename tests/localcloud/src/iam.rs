//! Who may do what: IAM's evaluation of role and bucket policies, as far as this project's policies go.
//!
//! The control plane's own check knows neither resources outside S3 nor conditions. Pure: values in, a decision out.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// `s3:PutObject`.
    pub(crate) action: String,
    /// The ARN; `*` where an action knows no resource.
    pub(crate) resource: String,
    /// Condition keys with their values; keys compare without regard to case.
    pub(crate) context: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// Nothing allows it.
    NotAllowed,
    /// A policy says Deny, and no Allow outweighs that.
    Denied,
}

/// Decides over all policies that apply: a Deny anywhere wins, then an Allow of the role's is needed.
///
/// Both sides are in one account, where a bucket policy could allow too; none here does, so it can only deny.
pub(crate) fn decide(
    role_policies: &[Value],
    resource_policies: &[Value],
    request: &Request,
) -> Decision {
    let hit = |policy: &Value, effect: &str| {
        statements(policy)
            .any(|statement| statement["Effect"] == effect && concerns(statement, request))
    };
    if role_policies
        .iter()
        .chain(resource_policies)
        .any(|policy| hit(policy, "Deny"))
    {
        return Decision::Denied;
    }
    if role_policies.iter().any(|policy| hit(policy, "Allow")) {
        Decision::Allowed
    } else {
        Decision::NotAllowed
    }
}

fn statements(policy: &Value) -> impl Iterator<Item = &Value> {
    list(&policy["Statement"])
}

/// An element that may be one value or several.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    let (several, one) = match value {
        Value::Array(values) => (values.as_slice(), None),
        Value::Null => (&[][..], None),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            (&[][..], Some(value))
        }
    };
    several.iter().chain(one)
}

fn concerns(statement: &Value, request: &Request) -> bool {
    let matches = |element: &str, text: &str| {
        list(&statement[element])
            .filter_map(Value::as_str)
            .any(|pattern| wildcard(pattern, text))
    };
    let action_matches = |element: &str| {
        let action = request.action.to_ascii_lowercase();
        list(&statement[element])
            .filter_map(Value::as_str)
            .any(|pattern| wildcard(&pattern.to_ascii_lowercase(), &action))
    };
    let action = if statement.get("NotAction").is_some() {
        !action_matches("NotAction")
    } else {
        action_matches("Action")
    };
    let resource = if statement.get("NotResource").is_some() {
        !matches("NotResource", &request.resource)
    } else {
        matches("Resource", &request.resource)
    };
    // A resource policy's principal: only statements for everybody, or for AWS principals by ARN, meet our roles.
    let principal = match &statement["Principal"] {
        Value::Null => true,
        Value::String(everybody) => everybody == "*",
        Value::Object(kinds) => kinds.get("AWS").is_some_and(|arns| {
            let caller = request
                .context
                .get("aws:principalarn")
                .map_or("", String::as_str);
            list(arns)
                .filter_map(Value::as_str)
                .any(|arn| arn == "*" || arn == caller)
        }),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    };
    action && resource && principal && conditions_hold(&statement["Condition"], &request.context)
}

fn conditions_hold(conditions: &Value, context: &BTreeMap<String, String>) -> bool {
    let Value::Object(operators) = conditions else {
        return true;
    };
    operators.iter().all(|(operator, tests)| {
        let Value::Object(tests) = tests else {
            return false;
        };
        tests.iter().all(|(key, wanted)| {
            let wanted: Vec<String> = list(wanted).map(text_of).collect();
            holds(
                operator,
                context.get(&key.to_ascii_lowercase()).map(String::as_str),
                &wanted,
            )
        })
    })
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// One condition. An absent key fails it, unless the operator negates or says `IfExists`.
fn holds(operator: &str, actual: Option<&str>, wanted: &[String]) -> bool {
    let (operator, if_exists) = match operator.strip_suffix("IfExists") {
        Some(operator) => (operator, true),
        None => (operator, false),
    };
    if operator == "Null" {
        return wanted
            .iter()
            .any(|wanted| (wanted == "true") == actual.is_none());
    }
    let any = |test: &dyn Fn(&str, &str) -> bool| match actual {
        Some(actual) => wanted.iter().any(|wanted| test(wanted, actual)),
        None => if_exists,
    };
    let number = |compare: &dyn Fn(f64, f64) -> bool| {
        any(&|wanted, actual| match (actual.parse(), wanted.parse()) {
            (Ok(actual), Ok(wanted)) => compare(actual, wanted),
            _ => false,
        })
    };
    let none_of = |test: &dyn Fn(&str, &str) -> bool| {
        actual.is_none_or(|actual| !wanted.iter().any(|wanted| test(wanted, actual)))
    };
    match operator {
        "StringEquals" | "ArnEquals" => any(&|wanted, actual| wanted == actual),
        "StringEqualsIgnoreCase" | "Bool" => {
            any(&|wanted, actual| wanted.eq_ignore_ascii_case(actual))
        }
        "StringLike" | "ArnLike" => any(&|wanted, actual| wildcard(wanted, actual)),
        "StringNotEquals" | "ArnNotEquals" => none_of(&|wanted, actual| wanted == actual),
        "StringNotLike" | "ArnNotLike" => none_of(&|wanted, actual| wildcard(wanted, actual)),
        "NumericGreaterThan" => number(&|actual, wanted| actual > wanted),
        "NumericGreaterThanEquals" => number(&|actual, wanted| actual >= wanted),
        "NumericLessThan" => number(&|actual, wanted| actual < wanted),
        "NumericLessThanEquals" => number(&|actual, wanted| actual <= wanted),
        "NumericEquals" => number(&|actual, wanted| (actual - wanted).abs() < f64::EPSILON),
        // Unknown operators never hold: an Allow is not granted; a Deny is not seen, which the tests of the template must know.
        _ => false,
    }
}

/// `*` is any text, `?` any one character.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut seen) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                retry = Some((at, seen));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star, from)) = retry else {
                    return false;
                };
                retry = Some((star, from + 1));
                at = star + 1;
                seen = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(action: &str, resource: &str, context: &[(&str, &str)]) -> Request {
        Request {
            action: action.into(),
            resource: resource.into(),
            context: context
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn dump_role() -> Vec<Value> {
        vec![
            json!({"Statement": [{"Effect": "Allow", "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
            "Resource": "arn:aws:s3:::vault/backups/*"}]}),
        ]
    }

    #[test]
    fn a_role_may_do_what_it_is_allowed_where_it_is_allowed() {
        let decide = |action, resource| decide(&dump_role(), &[], &request(action, resource, &[]));
        assert_eq!(
            decide("s3:PutObject", "arn:aws:s3:::vault/backups/app/1"),
            Decision::Allowed
        );
        assert_eq!(
            decide("s3:PutObject", "arn:aws:s3:::vault/verdicts/app/1"),
            Decision::NotAllowed
        );
        assert_eq!(
            decide("s3:GetObject", "arn:aws:s3:::vault/backups/app/1"),
            Decision::NotAllowed
        );
    }

    #[test]
    fn a_bucket_policy_denies_creation_without_if_none_match() {
        let policy = [
            json!({"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::vault/*",
            "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}}}),
        ];
        let put = |context: &[(&str, &str)]| {
            decide(
                &dump_role(),
                &policy,
                &request("s3:PutObject", "arn:aws:s3:::vault/backups/a", context),
            )
        };
        assert_eq!(
            put(&[("s3:objectcreationoperation", "true")]),
            Decision::Denied
        );
        assert_eq!(
            put(&[("s3:objectcreationoperation", "false")]),
            Decision::Allowed
        );
        assert_eq!(
            put(&[
                ("s3:objectcreationoperation", "true"),
                ("s3:if-none-match", "*")
            ]),
            Decision::Allowed
        );
    }

    #[test]
    fn an_absent_key_fails_a_condition_and_passes_its_negation() {
        assert!(!holds("StringEquals", None, &["a".into()]));
        assert!(holds("StringNotEquals", None, &["a".into()]));
        assert!(holds("StringEqualsIfExists", None, &["a".into()]));
        assert!(holds("NumericGreaterThan", Some("40"), &["35".into()]));
        assert!(!holds("Bool", Some("true"), &["false".into()]));
    }

    #[test]
    fn a_statement_for_a_service_does_not_meet_a_role() {
        let policy = [
            json!({"Statement": [{"Effect": "Deny", "Principal": {"Service": "cloudtrail.amazonaws.com"},
            "Action": "*", "Resource": "*"}]}),
        ];
        let put = request("s3:PutObject", "arn:aws:s3:::vault/backups/a", &[]);
        assert_eq!(decide(&dump_role(), &policy, &put), Decision::Allowed);
    }

    #[test]
    fn wildcards_match_as_in_iam() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xxaxxab", true),
            ("secret:identity-??????", "secret:identity-AbCdEf", true),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }
}
