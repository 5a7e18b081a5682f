//! What Neon's plans allow, as data: from its documentation of plans and limits. Pure.

/// A plan as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub name: &'static str,
    /// The longest restore window that can be set.
    pub window_seconds_max: u64,
    /// Of a project, if the project itself does not say.
    pub branches_max: u64,
    pub roots_max: u64,
    pub protected_max: u64,
    /// Of data, per project; None: charged by use.
    pub storage_bytes: Option<u64>,
    /// Per billing period; beyond it, the free plan stops and the others charge.
    pub transfer_bytes: u64,
    pub is_free: bool,
}

const DAY: u64 = 86_400;
const GB: u64 = 1_000_000_000;

const FREE: Plan = Plan {
    name: "Free",
    window_seconds_max: 6 * 3_600,
    branches_max: 10,
    roots_max: 3,
    protected_max: 0,
    storage_bytes: Some(GB / 2),
    transfer_bytes: 5 * GB,
    is_free: true,
};

const LAUNCH: Plan = Plan {
    name: "Launch",
    window_seconds_max: 7 * DAY,
    branches_max: 5_000,
    roots_max: 5,
    protected_max: 2,
    storage_bytes: None,
    transfer_bytes: 100 * GB,
    is_free: false,
};

const SCALE: Plan = Plan {
    name: "Scale",
    window_seconds_max: 30 * DAY,
    branches_max: 5_000,
    roots_max: 25,
    protected_max: 5,
    storage_bytes: None,
    transfer_bytes: 100 * GB,
    is_free: false,
};

/// The plan of `owner.subscription_type`. Contracts made with Neon itself have Scale's limits
/// at least; None for a name that is not known.
pub fn plan(subscription_type: &str) -> Option<Plan> {
    let is = |prefix: &str| {
        let rest = subscription_type.strip_prefix(prefix);
        rest.is_some_and(|it| it.is_empty() || it.starts_with('_'))
    };
    if is("free") {
        Some(FREE)
    } else if is("launch") {
        Some(LAUNCH)
    } else if is("scale") || is("business") || is("direct_sales") {
        Some(SCALE)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_known_by_their_subscription() {
        for (subscription, expected) in [
            ("free_v3", Some("Free")),
            ("free_v2", Some("Free")),
            ("launch", Some("Launch")),
            ("launch_v3", Some("Launch")),
            ("scale_v3", Some("Scale")),
            ("business", Some("Scale")),
            ("direct_sales_v3", Some("Scale")),
            ("aws_marketplace", None),
            ("freedom", None),
            ("UNKNOWN", None),
            ("", None),
        ] {
            assert_eq!(
                plan(subscription).map(|it| it.name),
                expected,
                "{subscription}"
            );
        }
    }
}
