//! What the loss of the platform, or of the last minutes, would cost: measured, and held
//! against the objectives. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::backup::BackupId;
use shared::policy::{DrillPolicy, Provider};
use shared::words;

/// Gaps between backups are looked for as far back.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(8 * 24);

/// One promise, and what was measured of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    pub name: ObjectiveName,
    /// Null where it could not be measured.
    pub measured_minutes: Option<f64>,
    pub objective_minutes: Option<u32>,
    /// Null where there is nothing to hold against each other.
    pub kept: Option<bool>,
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveName {
    /// Time to recover after the loss of the platform.
    PlatformLossRto,
    /// Data lost with the platform.
    PlatformLossRpo,
    /// Data lost when the provider's own history can be used.
    InWindowRpo,
}

impl ObjectiveName {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::PlatformLossRto => "Platform lost: time until it is back",
            Self::PlatformLossRpo => "Platform lost: data that is gone",
            Self::InWindowRpo => "Mistake noticed in time: data that is gone",
        }
    }
}

/// `verified`: backups by their scheduled times, newest first.
pub fn objectives(
    policy: Option<&DrillPolicy>,
    provider: Option<Provider>,
    measured_rto_seconds: Option<f64>,
    verified: &[BackupId],
    now: Timestamp,
) -> Vec<Objective> {
    let rto = policy.map(|it| it.rto_minutes);
    let rpo = policy.map(|it| it.rpo_minutes);
    let measured_rto = measured_rto_seconds.map(|it| it / 60.0);
    let worst = worst_gap(verified, now).map(|gap| gap.as_secs_f64() / 60.0);
    vec![
        Objective {
            name: ObjectiveName::PlatformLossRto,
            kept: kept(measured_rto, rto),
            words: match measured_rto_seconds {
                Some(seconds) => format!(
                    "from nothing to a checked database in {}",
                    words::seconds(seconds)
                ),
                None => "not measured: the drill did not get that far".to_owned(),
            },
            measured_minutes: measured_rto,
            objective_minutes: rto,
        },
        Objective {
            name: ObjectiveName::PlatformLossRpo,
            kept: kept(worst, rpo),
            words: lost(verified, now),
            measured_minutes: worst,
            objective_minutes: rpo,
        },
        in_window(provider),
    ]
}

fn kept(measured: Option<f64>, objective: Option<u32>) -> Option<bool> {
    Some(measured? <= f64::from(objective?))
}

/// The longest time in which the loss of the platform would have cost everything written.
fn worst_gap(verified: &[BackupId], now: Timestamp) -> Option<SignedDuration> {
    let mut worst = SignedDuration::ZERO;
    let mut later = now;
    for id in verified {
        let at = id.scheduled_at();
        if now.duration_since(later) > LOOK_BACK {
            break;
        }
        worst = worst.max(later.duration_since(at));
        later = at;
    }
    (!verified.is_empty()).then_some(worst)
}

fn lost(verified: &[BackupId], now: Timestamp) -> String {
    let (Some(newest), Some(worst)) = (verified.first(), worst_gap(verified, now)) else {
        return "there is no verified backup: everything would be lost".to_owned();
    };
    format!(
        "{} now, since the newest verified backup; up to {} in the last days",
        words::duration(now.duration_since(newest.scheduled_at())),
        words::duration(worst)
    )
}

fn in_window(provider: Option<Provider>) -> Objective {
    let words = match provider {
        Some(Provider::Postgres) => {
            "not measured: a plain PostgreSQL has no restore window that Lifeboat knows of"
        }
        Some(Provider::Neon | Provider::Supabase) => {
            "not measured: Lifeboat does not read this provider's restore window yet"
        }
        None => "not measured: the provider is not known",
    };
    Objective {
        name: ObjectiveName::InWindowRpo,
        measured_minutes: None,
        objective_minutes: None,
        kept: None,
        words: words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(days: &[&str], expected_minutes: Option<f64>, expected: Option<bool>) {
        let ids = days
            .iter()
            .map(|day| format!("202611{day}T010000Z-nightly"));
        let ids: Vec<BackupId> = ids.map(|it| it.parse().unwrap()).collect();
        let policy = serde_json::from_value(serde_json::json!({"target": "standby"})).unwrap();
        let now = "2026-11-22T02:00:00Z".parse().unwrap();
        let found = objectives(Some(&policy), None, Some(600.0), &ids, now);
        assert_eq!(
            (found[0].measured_minutes, found[0].kept),
            (Some(10.0), Some(true))
        );
        assert_eq!(
            (found[1].measured_minutes, found[1].kept),
            (expected_minutes, expected)
        );
    }

    #[test]
    fn the_longest_gap_of_the_last_days_is_what_could_have_been_lost() {
        check(&["22", "21", "20"], Some(1_440.0), Some(true));
        check(&["22", "20", "19"], Some(2_880.0), Some(false));
        check(&["20"], Some(2_940.0), Some(false));
        check(&[], None, None);
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        check(
            &[
                "22", "21", "20", "19", "18", "17", "16", "15", "14", "13", "02",
            ],
            Some(1_440.0),
            Some(true),
        );
    }
}
