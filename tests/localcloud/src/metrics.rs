//! Metrics: embedded-metric-format lines taken out of the logs, and counts of executions.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Map, Value};

/// One value of one metric at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Datapoint {
    pub namespace: String,
    pub metric: String,
    pub dimensions: BTreeMap<String, String>,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    pub value: f64,
}

/// All metrics of one cloud.
#[derive(Debug, Default)]
pub struct Metrics {
    points: Mutex<Vec<Datapoint>>,
}

impl Metrics {
    /// Keeps the metrics of a log line; most lines have none.
    pub(crate) fn record_line(&self, line: &str) {
        for point in embedded(line) {
            self.record(point);
        }
    }

    pub(crate) fn record(&self, point: Datapoint) {
        self.points
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(point);
    }

    pub fn all(&self) -> Vec<Datapoint> {
        self.points
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "_aws")]
    aws: Directive,
    #[serde(flatten)]
    members: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    timestamp: i64,
    cloud_watch_metrics: Vec<MetricSet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricSet {
    namespace: String,
    dimensions: Vec<Vec<String>>,
    metrics: Vec<MetricName>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricName {
    name: String,
}

/// The datapoints of an embedded-metric-format line: `_aws` must be at the root, as CloudWatch wants it.
fn embedded(line: &str) -> Vec<Datapoint> {
    if !line.starts_with('{') || !line.contains("\"_aws\"") {
        return Vec::new();
    }
    let Ok(line) = serde_json::from_str::<Line>(line) else {
        return Vec::new();
    };
    let mut points = Vec::new();
    for set in &line.aws.cloud_watch_metrics {
        // No dimension set at all is the same as one that is empty.
        let none = [Vec::new()];
        let sets = if set.dimensions.is_empty() {
            &none[..]
        } else {
            &set.dimensions[..]
        };
        for names in sets {
            let dimensions: Option<BTreeMap<String, String>> = names
                .iter()
                .map(|name| Some((name.clone(), line.members.get(name)?.as_str()?.to_owned())))
                .collect();
            let Some(dimensions) = dimensions else {
                continue;
            };
            for metric in &set.metrics {
                points.extend(
                    values(line.members.get(&metric.name))
                        .into_iter()
                        .map(|value| Datapoint {
                            namespace: set.namespace.clone(),
                            metric: metric.name.clone(),
                            dimensions: dimensions.clone(),
                            at_ms: line.aws.timestamp,
                            value,
                        }),
                );
            }
        }
    }
    points
}

fn values(member: Option<&Value>) -> Vec<f64> {
    match member {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_f64).collect(),
        Some(value) => value.as_f64().into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAUGE: &str = r#"{"_aws":{"Timestamp":1000,"CloudWatchMetrics":[{"Namespace":"Lifeboat",
        "Dimensions":[[],["Database"]],"Metrics":[{"Name":"BackupOverdueMinutes"}]}]},"Database":"app","BackupOverdueMinutes":7}"#;

    #[test]
    fn a_gauge_counts_once_for_each_set_of_dimensions() {
        let points = embedded(&GAUGE.replace('\n', ""));
        let read: Vec<_> = points
            .iter()
            .map(|point| (point.dimensions.len(), point.value, point.at_ms))
            .collect();
        assert_eq!(read, [(0, 7.0, 1000), (1, 7.0, 1000)]);
        assert_eq!(points[1].dimensions["Database"], "app");
    }

    #[test]
    fn a_line_with_the_directive_below_the_root_is_no_metric() {
        let nested = format!(r#"{{"fields":{}}}"#, GAUGE.replace('\n', ""));
        assert_eq!(embedded(&nested), []);
        assert_eq!(embedded("START RequestId: 1"), []);
    }
}
