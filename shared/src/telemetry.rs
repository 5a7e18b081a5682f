//! Logs and metrics, set up the same way in every function.

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

/// The CloudWatch namespace of every metric.
pub const NAMESPACE: &str = "Lifeboat";

/// Writes JSON lines to stdout, at the level in `RUST_LOG` or `info`.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();
}

/// Writes one gauge as a line of CloudWatch's embedded metric format.
///
/// Only gauges and 0/1 flags: delivery is at least once, and a repeated gauge changes
/// nothing. Format: CloudWatch "Embedded Metric Format" specification.
pub fn gauge(now: Timestamp, name: &str, value: f64, database: Option<&str>) {
    println!("{}", gauge_line(now, name, value, database));
}

fn gauge_line(now: Timestamp, name: &str, value: f64, database: Option<&str>) -> Value {
    let dimensions = if database.is_some() {
        vec!["Database"]
    } else {
        vec![]
    };
    let mut line = json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [dimensions],
                "Metrics": [{"Name": name}],
            }],
        },
        name: value,
    });
    if let Some(database) = database {
        line["Database"] = database.into();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_has_its_metadata_at_the_root() {
        let now = "2026-11-21T01:00:00Z".parse().unwrap();
        assert_eq!(
            gauge_line(now, "BackupOverdueMinutes", 15.0, Some("app")).to_string(),
            r#"{"BackupOverdueMinutes":15.0,"Database":"app","_aws":{"CloudWatchMetrics":[{"Dimensions":[["Database"]],"Metrics":[{"Name":"BackupOverdueMinutes"}],"Namespace":"Lifeboat"}],"Timestamp":1795222800000}}"#
        );
    }
}
