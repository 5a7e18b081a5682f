//! Schedules of the template: what they would start, and when. Pure but for the reading of the template.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cloud::{CloudError, Inner};
use crate::cron::Expression;
use crate::deploy::DeployError;

/// One schedule, intrinsic functions resolved.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    name: String,
    expression: Expression,
    zone: TimeZone,
    target: String,
    input: String,
}

/// One firing of one schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub schedule: String,
    pub at: Timestamp,
    /// ARN of the state machine.
    pub target: String,
    /// What the machine is started with.
    pub input: String,
}

/// All firings after `from` and not after `to`, in order of time.
pub(crate) fn due(schedules: &[Schedule], from: Timestamp, to: Timestamp) -> Vec<Due> {
    let mut due: Vec<Due> = schedules
        .iter()
        .flat_map(|schedule| {
            schedule
                .expression
                .between(&schedule.zone, from, to)
                .into_iter()
                .map(|at| Due {
                    schedule: schedule.name.clone(),
                    at,
                    target: schedule.target.clone(),
                    input: schedule
                        .input
                        .replace("<aws.scheduler.scheduled-time>", &at.to_string()),
                })
        })
        .collect();
    due.sort_by_key(|due| due.at);
    due
}

impl Inner {
    pub(crate) fn schedules(&self) -> Result<Vec<Schedule>, CloudError> {
        let found = self
            .stack
            .template
            .of_type("AWS::Scheduler::Schedule")
            .map_err(DeployError::from)?;
        let enabled = found
            .into_iter()
            .filter(|schedule| schedule.properties["State"] != "DISABLED");
        enabled
            .map(|schedule| {
                let text = |name: &str| schedule.properties[name].as_str().unwrap_or_default();
                let unknown =
                    |_| CloudError::Unknown(format!("time zone of {}", schedule.logical_id));
                let zone = schedule.properties["ScheduleExpressionTimezone"]
                    .as_str()
                    .unwrap_or("UTC");
                let target = &schedule.properties["Target"];
                Ok(Schedule {
                    name: text("Name").to_owned(),
                    expression: Expression::parse(text("ScheduleExpression"))
                        .map_err(|error| CloudError::Unknown(error.to_string()))?,
                    zone: TimeZone::get(zone).map_err(unknown)?,
                    target: target["Arn"].as_str().unwrap_or_default().to_owned(),
                    input: target["Input"].as_str().unwrap_or("{}").to_owned(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firing_carries_its_scheduled_time_as_aws_writes_it() {
        let schedule = |name: &str, expression: &str| Schedule {
            name: name.into(),
            expression: Expression::parse(expression).unwrap(),
            zone: TimeZone::UTC,
            target: "machine".into(),
            input: r#"{"scheduled_time":"<aws.scheduler.scheduled-time>"}"#.into(),
        };
        let schedules = [
            schedule("check", "cron(30 1 * * ? *)"),
            schedule("nightly", "cron(0 1 * * ? *)"),
        ];
        let due = due(
            &schedules,
            "2026-11-20T00:00:00Z".parse().unwrap(),
            "2026-11-20T02:00:00Z".parse().unwrap(),
        );
        let read: Vec<_> = due
            .iter()
            .map(|due| (due.schedule.as_str(), due.input.as_str()))
            .collect();
        let expected = [
            ("nightly", r#"{"scheduled_time":"2026-11-20T01:00:00Z"}"#),
            ("check", r#"{"scheduled_time":"2026-11-20T01:30:00Z"}"#),
        ];
        assert_eq!(read, expected);
    }
}
