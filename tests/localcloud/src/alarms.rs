//! Alarms of the template, evaluated against the metrics that were collected. Pure but for the publishing.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::{CloudError, Inner};
use crate::deploy::DeployError;
use crate::metrics::Datapoint;
use crate::template::scalar;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmState {
    Ok,
    Alarm,
    InsufficientData,
}

/// One alarm after a look at it.
#[derive(Clone, Debug)]
pub struct Evaluated {
    pub logical_id: String,
    pub state: AlarmState,
    /// Whether it went off just now, and so published.
    pub went_off: bool,
}

/// The state of each alarm at its last evaluation, by logical id.
pub(crate) type States = BTreeMap<String, AlarmState>;

/// One alarm, intrinsic functions resolved.
#[derive(Clone, Debug)]
struct Alarm {
    namespace: String,
    metric: String,
    dimensions: BTreeMap<String, String>,
    statistic: String,
    comparison: String,
    threshold: f64,
    period_ms: i64,
    periods: i64,
    to_alarm: usize,
    missing: Missing,
    warm_up_ms: i64,
}

/// `TreatMissingData`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Breaching,
    NotBreaching,
    Ignore,
    Unknown,
}

impl Alarm {
    fn of(properties: &Value) -> Self {
        let text = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
        let whole = |value: &Value, default| {
            scalar(value)
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let periods = whole(&properties["EvaluationPeriods"], 1);
        let dimensions = properties["Dimensions"].as_array().into_iter().flatten();
        Self {
            namespace: text("Namespace"),
            metric: text("MetricName"),
            dimensions: dimensions
                .filter_map(|dimension| {
                    Some((scalar(&dimension["Name"])?, scalar(&dimension["Value"])?))
                })
                .collect(),
            statistic: text("Statistic"),
            comparison: text("ComparisonOperator"),
            threshold: scalar(&properties["Threshold"])
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            period_ms: whole(&properties["Period"], 60) * 1000,
            periods,
            to_alarm: usize::try_from(whole(&properties["DatapointsToAlarm"], periods))
                .unwrap_or(1),
            missing: match properties["TreatMissingData"].as_str() {
                Some("breaching") => Missing::Breaching,
                Some("notBreaching") => Missing::NotBreaching,
                Some("ignore") => Missing::Ignore,
                _ => Missing::Unknown,
            },
            warm_up_ms: whole(
                &properties["WarmUpConfiguration"]["WarmUpPeriodDurationInMinutes"],
                0,
            ) * 60_000,
        }
    }

    /// The state at `now_ms`: the periods end at the next whole minute, so that what was just counted counts.
    fn state(&self, points: &[Datapoint], now_ms: i64, before: AlarmState) -> AlarmState {
        let end = (now_ms.div_euclid(60_000) + 1) * 60_000;
        let own: Vec<&Datapoint> = points.iter().filter(|point| self.is_about(point)).collect();
        let periods: Vec<Option<f64>> = (0..self.periods)
            .map(|index| {
                let until = end - index * self.period_ms;
                let values = own
                    .iter()
                    .filter(|point| point.at_ms >= until - self.period_ms && point.at_ms < until);
                statistic(&self.statistic, values.map(|point| point.value))
            })
            .collect();
        let missing = periods.iter().filter(|value| value.is_none()).count();
        if missing == periods.len() {
            match self.missing {
                Missing::Ignore => return before,
                Missing::Unknown => return AlarmState::InsufficientData,
                Missing::Breaching | Missing::NotBreaching => {}
            }
        }
        let breaching = periods
            .iter()
            .flatten()
            .filter(|value| self.breaches(**value))
            .count();
        let counted = if self.missing == Missing::Breaching {
            breaching + missing
        } else {
            breaching
        };
        if counted >= self.to_alarm {
            AlarmState::Alarm
        } else {
            AlarmState::Ok
        }
    }

    fn is_about(&self, point: &Datapoint) -> bool {
        point.namespace == self.namespace
            && point.metric == self.metric
            && point.dimensions == self.dimensions
    }

    fn breaches(&self, value: f64) -> bool {
        match self.comparison.as_str() {
            "GreaterThanThreshold" => value > self.threshold,
            "GreaterThanOrEqualToThreshold" => value >= self.threshold,
            "LessThanThreshold" => value < self.threshold,
            "LessThanOrEqualToThreshold" => value <= self.threshold,
            _ => false,
        }
    }
}

fn statistic(name: &str, values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    let count = f64::from(
        u32::try_from(values.len())
            .ok()
            .filter(|count| *count > 0)?,
    );
    Some(match name {
        "Maximum" => values.into_iter().fold(f64::MIN, f64::max),
        "Minimum" => values.into_iter().fold(f64::MAX, f64::min),
        "Average" => values.into_iter().sum::<f64>() / count,
        "SampleCount" => count,
        _ => values.into_iter().sum(),
    })
}

impl Inner {
    /// Looks at every alarm once; those that go off publish, as CloudWatch does.
    pub(crate) async fn evaluate_alarms(
        &self,
        now: Timestamp,
    ) -> Result<Vec<Evaluated>, CloudError> {
        let points = self.metrics.all();
        let mut evaluated = Vec::new();
        for resource in self
            .stack
            .template
            .of_type("AWS::CloudWatch::Alarm")
            .map_err(DeployError::from)?
        {
            let alarm = Alarm::of(&resource.properties);
            let known = self
                .alarms
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&resource.logical_id)
                .copied();
            let before = known.unwrap_or(AlarmState::InsufficientData);
            let is_warm = now.as_millisecond() >= self.created.as_millisecond() + alarm.warm_up_ms;
            let state = if is_warm {
                alarm.state(&points, now.as_millisecond(), before)
            } else {
                before
            };
            self.alarms
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(resource.logical_id.clone(), state);
            let went_off = state == AlarmState::Alarm && before != AlarmState::Alarm;
            if went_off {
                self.publish_alarm(&resource.logical_id, &resource.properties)
                    .await?;
            }
            evaluated.push(Evaluated {
                logical_id: resource.logical_id,
                state,
                went_off,
            });
        }
        Ok(evaluated)
    }

    async fn publish_alarm(&self, logical_id: &str, properties: &Value) -> Result<(), CloudError> {
        let name = properties["AlarmName"].as_str().unwrap_or(logical_id);
        let subject = format!("ALARM: \"{name}\" in US East (N. Virginia)");
        let message = json!({
            "AlarmName": name,
            "AlarmDescription": properties["AlarmDescription"],
            "NewStateValue": "ALARM",
        });
        for topic in properties["AlarmActions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let message = message.to_string();
            let publish = [
                ("Action", "Publish"),
                ("TopicArn", topic),
                ("Subject", &subject),
                ("Message", &message),
            ];
            self.aws.query("sns", "2010-03-31", &publish).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn overdue(missing: &str) -> Alarm {
        Alarm::of(&json!({
            "Namespace": "Lifeboat", "MetricName": "BackupOverdueMinutes", "Statistic": "Maximum", "Period": 900,
            "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "Threshold": "0",
            "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": missing,
        }))
    }

    fn points(values: &[(i64, f64)]) -> Vec<Datapoint> {
        let point = |&(minute, value): &(i64, f64)| Datapoint {
            namespace: "Lifeboat".into(),
            metric: "BackupOverdueMinutes".into(),
            dimensions: BTreeMap::new(),
            at_ms: minute * MINUTE,
            value,
        };
        values.iter().map(point).collect()
    }

    #[track_caller]
    fn check(missing: &str, values: &[(i64, f64)], expected: AlarmState) {
        let state = overdue(missing).state(&points(values), 44 * MINUTE, AlarmState::Ok);
        assert_eq!(state, expected, "{missing} {values:?}");
    }

    #[test]
    fn two_of_three_late_periods_set_the_alarm_off() {
        check(
            "breaching",
            &[(5, 0.0), (20, 5.0), (35, 20.0)],
            AlarmState::Alarm,
        );
        check(
            "breaching",
            &[(5, 0.0), (20, 0.0), (35, 20.0)],
            AlarmState::Ok,
        );
    }

    #[test]
    fn silence_is_treated_as_the_template_says() {
        check("breaching", &[], AlarmState::Alarm);
        check("breaching", &[(5, 0.0)], AlarmState::Alarm);
        check("notBreaching", &[], AlarmState::Ok);
        check("missing", &[], AlarmState::InsufficientData);
        check("ignore", &[], AlarmState::Ok);
    }

    #[test]
    fn another_dimension_is_another_metric() {
        let mut points = points(&[(20, 5.0), (35, 20.0)]);
        for point in &mut points {
            point.dimensions.insert("Database".into(), "app".into());
        }
        assert_eq!(
            overdue("notBreaching").state(&points, 44 * MINUTE, AlarmState::Ok),
            AlarmState::Ok
        );
    }

    #[test]
    fn a_sum_below_its_threshold_breaches() {
        let mut alarm = overdue("breaching");
        (alarm.statistic, alarm.comparison, alarm.threshold) =
            ("Sum".into(), "LessThanThreshold".into(), 1.0);
        assert_eq!(
            alarm.state(
                &points(&[(20, 1.0), (35, 1.0)]),
                44 * MINUTE,
                AlarmState::Ok
            ),
            AlarmState::Ok
        );
        assert_eq!(
            alarm.state(&points(&[(20, 1.0)]), 44 * MINUTE, AlarmState::Ok),
            AlarmState::Alarm
        );
    }
}
