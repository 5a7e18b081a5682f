//! How a plan ended, from what is written down of it: the verdict, and the state of the target.
//! Pure.

use jiff::Timestamp;
use shared::restore::{Advance, Destination, Scope};
use shared::words;

use crate::plan::Plan;
use crate::report::{Known, Verdict};
use crate::request::Outcome;

/// What could be done about a target whose restore did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It says of itself that it is unusable.
    Unusable,
    /// There is no database, or no ledger of ours in it.
    NothingThere,
    /// It could not be told anything.
    OutOfReach,
}

pub(crate) fn verdict_of(plan: &Plan, advance: &Advance) -> Verdict {
    match (&plan.request.scope, &advance.proof) {
        (Scope::SchemaOnly, _) => Verdict::Restored,
        (_, Some(proof)) if proof.is_proven => Verdict::Proven,
        // Nothing that was compared differs; but not everything could be, or was to be, there.
        (_, Some(proof)) if proof.differences().is_empty() => Verdict::Restored,
        (_, Some(_) | None) => Verdict::NotProven,
    }
}

impl Known<'_> {
    /// Why it cannot have ended like that.
    pub fn contradiction(&self, now: Timestamp) -> Option<String> {
        let plan = self.plan;
        match self.outcome {
            Outcome::Finished if self.advance.is_none() => Some(
                "it is not finished: send `apply` until `remaining` is 0, or report it as failed"
                    .to_owned(),
            ),
            Outcome::Refused if !self.is_refused() => Some("nobody has refused it".to_owned()),
            Outcome::Refused | Outcome::Expired => self
                .applied
                .map(|it| format!("it was used at {}, by {}", words::time(it.at), it.by))
                .or_else(|| {
                    let is_early = self.outcome == Outcome::Expired && now < plan.expires_at;
                    let until = words::time(plan.expires_at);
                    is_early.then(|| format!("it may be decided on until {until}"))
                }),
            Outcome::Finished | Outcome::Failed => None,
        }
    }

    fn is_refused(&self) -> bool {
        self.decision.is_some_and(|it| !it.approved)
    }

    /// Follows from what is written down; what the caller says of it comes last.
    pub fn verdict(&self) -> Verdict {
        if let Some(advance) = self.advance.filter(|it| it.remaining == 0) {
            return verdict_of(self.plan, advance);
        }
        if self.is_refused() {
            return Verdict::Refused;
        }
        match self.outcome {
            Outcome::Finished | Outcome::Failed => Verdict::Failed,
            Outcome::Refused => Verdict::Refused,
            Outcome::Expired => Verdict::Expired,
        }
    }

    /// What state the target is in, and what a person does about it.
    pub fn target_state(&self) -> String {
        if self.applied.is_none() {
            return format!("{} was not touched", self.plan.target_name);
        }
        match self.verdict() {
            Verdict::Proven | Verdict::Restored => self.good_state(),
            Verdict::NotProven | Verdict::Failed | Verdict::Refused | Verdict::Expired => {
                self.bad_state()
            }
        }
    }

    fn good_state(&self) -> String {
        let name = &self.plan.target_name;
        let proof = self.advance.and_then(|it| it.proof.as_ref());
        let misses = proof.is_some_and(|it| !it.left_out.is_empty() || !it.inconclusive.is_empty());
        let what = match (&self.plan.request.scope, misses) {
            (_, true) => {
                "has what was to be restored, without what was left out or could not be compared"
            }
            (Scope::SchemaOnly, false) => "has the whole schema, without rows",
            (Scope::Everything | Scope::DataOnly | Scope::Tables(_), false) => "is complete",
        };
        let state = match &self.plan.request.target {
            Destination::Staging { schema, .. } => format!(
                "{name}: the tables are in the schema {schema}, beside the live ones, which were not touched. Read the differences and the merge script, run of it what you want, then drop the schema {schema}"
            ),
            Destination::NewDatabase { .. } | Destination::ExistingTables { .. } => format!(
                "{name} {what}, and nothing uses it yet. Compare a few things that you know, then point the application at it"
            ),
        };
        match self.mark {
            None => state,
            Some(Mark::Unusable | Mark::NothingThere | Mark::OutOfReach) => format!(
                "{state}. What Lifeboat keeps in it while it restores could not be removed: drop the schema lifeboat_restore, or in a staging schema the tables \"lifeboat run\" and \"lifeboat job\", and change the comment"
            ),
        }
    }

    fn bad_state(&self) -> String {
        let name = &self.plan.target_name;
        let (what, remedy) = match &self.plan.request.target {
            Destination::NewDatabase { database, .. } => (
                name.clone(),
                format!(
                    "Drop it (DROP DATABASE \"{}\" WITH (FORCE);) before you plan again under this name",
                    database.replace('"', "\"\"")
                ),
            ),
            Destination::Staging { schema, .. } => (
                format!("the schema {schema}"),
                format!(
                    "The live tables were not touched. Drop it (DROP SCHEMA \"{}\" CASCADE;) before you plan again under this name",
                    schema.replace('"', "\"\"")
                ),
            ),
            Destination::ExistingTables { .. } => (
                name.clone(),
                "Some of its tables have rows, others not. Empty them, or make the database anew, before you plan again".to_owned(),
            ),
        };
        match self.mark {
            Some(Mark::NothingThere) => format!(
                "nothing was restored into {name}: no restore of this plan has begun in it. If it is there, it is empty, or not this plan's: look at its comment before you drop it"
            ),
            Some(Mark::OutOfReach) => format!(
                "{what} is UNUSABLE, but could not be reached, so it may not say so. Nobody may use it. {remedy}"
            ),
            Some(Mark::Unusable) | None => {
                format!("{what} is UNUSABLE and says so. Nobody may use it. {remedy}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::plan;
    use crate::plan::tests::{at, world};
    use crate::plans::Consumed;
    use jiff::SignedDuration;
    use shared::approval::Decision;
    use shared::restore::Proof;

    const NOW: &str = "2026-11-21T04:00:00Z";

    fn decided(approved: bool) -> Decision {
        Decision {
            approved,
            operator: "Grace".to_owned(),
            at: at("2026-11-21T03:10:00Z"),
        }
    }

    fn used() -> Consumed {
        Consumed {
            by: "arn:execution".to_owned(),
            at: at("2026-11-21T03:11:00Z"),
        }
    }

    fn done(proof: Proof) -> Advance {
        Advance {
            proof: Some(proof),
            ..Advance::default()
        }
    }

    fn equal() -> Proof {
        Proof {
            is_proven: true,
            ..Proof::default()
        }
    }

    /// What is said of an outcome, with these steps written down: a contradiction, or the verdict
    /// and the target's state.
    fn said(
        outcome: Outcome,
        (decision, applied, advance): (Option<Decision>, Option<Consumed>, Option<Advance>),
        mark: Option<Mark>,
    ) -> Result<(Verdict, String), String> {
        let plan = plan(
            world(),
            at("2026-11-21T03:05:01Z"),
            SignedDuration::from_hours(4),
        );
        let known = Known {
            plan: &plan,
            outcome,
            failure: None,
            decision: decision.as_ref(),
            applied: applied.as_ref(),
            advance: advance.as_ref(),
            mark,
            reread_bytes: 0,
        };
        match known.contradiction(at(NOW)) {
            Some(why) => Err(why),
            None => Ok((known.verdict(), known.target_state())),
        }
    }

    #[test]
    fn what_contradicts_the_steps_that_were_taken_is_not_reported() {
        let in_use = || (Some(decided(true)), Some(used()), None);
        for (outcome, steps, expected) in [
            (Outcome::Refused, in_use(), "nobody has refused it"),
            (
                Outcome::Refused,
                (None, None, None),
                "nobody has refused it",
            ),
            (Outcome::Expired, in_use(), "it was used at"),
            (
                Outcome::Expired,
                (None, None, None),
                "may be decided on until 2026-11-21 07:05 UTC",
            ),
            (Outcome::Finished, in_use(), "it is not finished"),
            (
                Outcome::Finished,
                (Some(decided(true)), None, None),
                "it is not finished",
            ),
        ] {
            let why = said(outcome, steps, None).unwrap_err();
            assert!(why.contains(expected), "{outcome:?}: {why}");
        }
    }

    #[test]
    fn the_verdict_follows_from_what_was_done_and_not_from_who_reports() {
        let whole = || (Some(decided(true)), Some(used()), Some(done(equal())));
        for outcome in [Outcome::Finished, Outcome::Failed] {
            let (verdict, state) = said(outcome, whole(), None).unwrap();
            assert_eq!(verdict, Verdict::Proven);
            assert!(state.contains("is complete"), "{state}");
        }
        let (_, state) = said(Outcome::Failed, whole(), Some(Mark::OutOfReach)).unwrap();
        assert!(state.contains("could not be removed"), "{state}");
        assert!(!state.contains("UNUSABLE"), "{state}");
        let differs = (Some(decided(true)), Some(used()), Some(Advance::default()));
        let (verdict, state) = said(Outcome::Finished, differs, None).unwrap();
        assert_eq!(verdict, Verdict::NotProven);
        assert!(state.contains("UNUSABLE and says so"), "{state}");
        let refused = (Some(decided(false)), None, None);
        let (verdict, state) = said(Outcome::Failed, refused, None).unwrap();
        assert_eq!(verdict, Verdict::Refused);
        assert!(state.contains("was not touched"), "{state}");
    }

    #[test]
    fn a_failure_says_what_was_really_marked() {
        let failed = |mark| {
            let steps = (Some(decided(true)), Some(used()), None);
            let (verdict, state) = said(Outcome::Failed, steps, mark).unwrap();
            assert_eq!(verdict, Verdict::Failed);
            state
        };
        let state = failed(Some(Mark::Unusable));
        assert!(state.contains("UNUSABLE and says so"), "{state}");
        let state = failed(Some(Mark::NothingThere));
        assert!(state.contains("nothing was restored into"), "{state}");
        assert!(!state.contains("DROP DATABASE"), "{state}");
        let state = failed(Some(Mark::OutOfReach));
        assert!(state.contains("may not say so"), "{state}");
    }

    #[test]
    fn what_is_not_all_there_is_not_called_complete() {
        let left_out = Proof {
            inconclusive: vec!["TABLE DATA app.t was left out with 1 rows".to_owned()],
            ..Proof::default()
        };
        let steps = (Some(decided(true)), Some(used()), Some(done(left_out)));
        let (verdict, state) = said(Outcome::Finished, steps, None).unwrap();
        assert_eq!(verdict, Verdict::Restored);
        assert!(state.contains("without what was left out"), "{state}");
        assert!(!state.contains("complete"), "{state}");
    }
}
