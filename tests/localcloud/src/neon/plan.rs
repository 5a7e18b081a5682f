//! What the plans allow, as documented; values in, values out.

/// A plan of Neon's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    Free,
    Launch,
    #[default]
    Scale,
}

/// The limits that the stand-in enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub branches: usize,
    pub root_branches: usize,
    pub protected_branches: usize,
    pub manual_snapshots: usize,
    /// Besides the default branch's.
    pub active_computes: usize,
    pub history_retention_seconds: i64,
}

impl Plan {
    /// As `owner.subscription_type` says it.
    pub(super) fn subscription(self) -> &'static str {
        match self {
            Self::Free => "free_v3",
            Self::Launch => "launch_v3",
            Self::Scale => "scale_v3",
        }
    }

    #[must_use]
    pub fn limits(self) -> Limits {
        let (branches, root_branches, protected_branches, manual_snapshots, days) = match self {
            Self::Free => (10, 3, 0, 1, 0.25),
            Self::Launch => (5000, 5, 2, 100, 7.0),
            Self::Scale => (5000, 25, 5, 100, 30.0),
        };
        Limits {
            branches,
            root_branches,
            protected_branches,
            manual_snapshots,
            active_computes: 20,
            #[expect(clippy::cast_possible_truncation, reason = "a whole number of seconds")]
            history_retention_seconds: (days * 86_400.0_f64) as i64,
        }
    }

    /// How far back one can go when nobody has said anything.
    pub(super) fn default_retention_seconds(self) -> i64 {
        match self {
            Self::Free => 21_600,
            Self::Launch | Self::Scale => 86_400,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_plan_goes_back_six_hours() {
        assert_eq!(Plan::Free.limits().history_retention_seconds, 21_600);
        assert_eq!(Plan::Launch.limits().history_retention_seconds, 604_800);
    }
}
