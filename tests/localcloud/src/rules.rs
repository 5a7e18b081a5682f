//! EventBridge rules of the template: which events match, and what their targets are sent. Pure.

use serde_json::Value;

/// One rule with its targets, intrinsic functions resolved.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) pattern: Value,
    pub(crate) targets: Vec<Value>,
}

/// A message for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) message: String,
}

impl Rule {
    /// What the rule's targets are sent for this event; nothing when it does not match.
    pub(crate) fn deliveries(&self, event: &Value) -> Vec<Delivery> {
        if !matches(&self.pattern, event) {
            return Vec::new();
        }
        self.targets
            .iter()
            .filter_map(|target| {
                let topic = target["Arn"].as_str()?.to_owned();
                let transformer = &target["InputTransformer"];
                let message = match (
                    transformer["InputTemplate"].as_str(),
                    target["Input"].as_str(),
                ) {
                    (Some(template), _) => {
                        transform(template, &transformer["InputPathsMap"], event)
                    }
                    (None, Some(input)) => input.to_owned(),
                    (None, None) => event.to_string(),
                };
                Some(Delivery { topic, message })
            })
            .collect()
    }
}

/// Every field of the pattern must match: an array lists what the value may be, an object goes deeper.
fn matches(pattern: &Value, event: &Value) -> bool {
    let Value::Object(fields) = pattern else {
        return false;
    };
    fields
        .iter()
        .all(|(name, pattern)| match pattern.as_array() {
            Some(allowed) => allowed
                .iter()
                .any(|allowed| is_allowed(allowed, event.get(name))),
            None => event
                .get(name)
                .is_some_and(|deeper| matches(pattern, deeper)),
        })
}

/// One alternative: a literal, or a test such as `{"prefix": "…"}`.
fn is_allowed(allowed: &Value, actual: Option<&Value>) -> bool {
    if let Some(Value::Array(values)) = actual {
        return values.iter().any(|value| is_allowed(allowed, Some(value)));
    }
    let Value::Object(test) = allowed else {
        return actual.is_some_and(|actual| actual == allowed);
    };
    let text = actual.and_then(Value::as_str);
    test.iter().all(|(name, wanted)| match name.as_str() {
        "prefix" => text
            .zip(wanted.as_str())
            .is_some_and(|(text, wanted)| text.starts_with(wanted)),
        "suffix" => text
            .zip(wanted.as_str())
            .is_some_and(|(text, wanted)| text.ends_with(wanted)),
        "wildcard" => text
            .zip(wanted.as_str())
            .is_some_and(|(text, wanted)| crate::iam::wildcard(wanted, text)),
        "exists" => wanted.as_bool() == Some(actual.is_some()),
        "anything-but" => match wanted.as_array() {
            Some(wanted) => actual.is_some_and(|actual| !wanted.contains(actual)),
            None => actual.is_some_and(|actual| actual != wanted),
        },
        _ => false,
    })
}

/// Fills the template's `<name>` from the paths. As on AWS, a template in quotes yields the text without them.
fn transform(template: &str, paths: &Value, event: &Value) -> String {
    let mut message = template.to_owned();
    for (name, path) in paths.as_object().into_iter().flatten() {
        let value = path.as_str().and_then(|path| at_path(event, path));
        let text = match value {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        message = message.replace(&format!("<{name}>"), &text);
    }
    let lines = message.trim().lines().map(|line| {
        let line = line.trim();
        line.strip_prefix('"')
            .and_then(|line| line.strip_suffix('"'))
            .unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `$.detail.name`
fn at_path<'a>(event: &'a Value, path: &str) -> Option<&'a Value> {
    path.strip_prefix("$.")?
        .split('.')
        .try_fold(event, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failed_runs() -> Rule {
        Rule {
            name: "lifeboat-failed-executions".into(),
            pattern: json!({
                "source": ["aws.states"],
                "detail-type": ["Step Functions Execution Status Change"],
                "detail": {"stateMachineArn": ["arn:a", {"prefix": "arn:b"}], "status": ["FAILED", "TIMED_OUT", "ABORTED"]}
            }),
            targets: vec![json!({
                "Arn": "topic",
                "InputTransformer": {
                    "InputPathsMap": {"name": "$.detail.name", "status": "$.detail.status"},
                    "InputTemplate": "\"Backstop: <name> ended <status>.\"\n\"Look.\""
                }
            })],
        }
    }

    fn event(machine: &str, status: &str) -> Value {
        json!({"source": "aws.states", "detail-type": "Step Functions Execution Status Change",
            "detail": {"stateMachineArn": machine, "status": status, "name": "run-1"}})
    }

    #[test]
    fn a_failed_run_is_worded_by_the_template() {
        let deliveries = failed_runs().deliveries(&event("arn:a", "TIMED_OUT"));
        let expected = Delivery {
            topic: "topic".into(),
            message: "Backstop: run-1 ended TIMED_OUT.\nLook.".into(),
        };
        assert_eq!(deliveries, [expected]);
    }

    #[test]
    fn a_success_and_a_foreign_machine_are_left_alone() {
        assert_eq!(failed_runs().deliveries(&event("arn:a", "SUCCEEDED")), []);
        assert_eq!(failed_runs().deliveries(&event("arn:c", "FAILED")), []);
        assert_eq!(
            failed_runs().deliveries(&event("arn:b2", "FAILED")).len(),
            1
        );
    }

    #[test]
    fn a_missing_field_matches_only_a_test_for_its_absence() {
        assert!(!matches(
            &json!({"detail": {"x": ["1"]}}),
            &json!({"detail": {}})
        ));
        assert!(matches(
            &json!({"detail": {"x": [{"exists": false}]}}),
            &json!({"detail": {}})
        ));
        assert!(matches(
            &json!({"x": [{"anything-but": ["a"]}]}),
            &json!({"x": "b"})
        ));
    }
}
