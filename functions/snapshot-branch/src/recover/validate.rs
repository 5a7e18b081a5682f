//! Asks the branch of the moment before production is put back, and production afterwards: are
//! the tables there, and does what `[database.drill]` asks of rows and by SQL hold?

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use shared::checks::session::{Session, Unanswered, texts};
use shared::checks::{CheckResult, assertion, queries, table};
use shared::database_url::DatabaseUrl;
use shared::neon::ownership::Own;
use shared::neon::{ConnectionUri, NewBranch, Point};
use shared::pg::PgError;
use shared::policy::DrillPolicy;

use super::compare::compare;
use super::error::RecoveryError;
use super::outcome::faults;
use super::plan::Plan;
use super::request::PlanId;
use super::steps::{Asked, Promoted, Proof, Smoked, Validated};
use super::{Context, aside, candidate, new_copy, see};
use crate::Opened;
use crate::create::whole_second;
use crate::dump_source::EXPIRES_AFTER;
use crate::error::BranchesError;
use crate::request::RestorePoint;

/// Writes are stopped for it.
const PROOF_MAX: Duration = Duration::from_secs(60);

/// Partitions are their root's, and what an extension brings comes with it.
const TABLES: &str = "
    SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1";

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    tables: usize,
    checks: usize,
    seconds: f64,
}

impl Context<'_> {
    pub(super) async fn validate(&self, plan_id: &PlanId) -> Result<Told, BranchesError> {
        let (plan, _decision) = self.approved(plan_id).await?;
        if let Some(validated) = self.read::<Validated>(plan_id.as_str()).await? {
            return Ok(told(&validated.asked, validated.taken.seconds));
        }
        let opened = self.open(&plan.request.database).await?;
        let uri = branch_uri(&opened, &plan).await?;
        let asked = self.ask(&opened, &plan, &uri).await?;
        let faults = faults(&asked, None);
        if !faults.is_empty() {
            return Err(RecoveryError::NotValid(faults).into());
        }
        let validated = Validated {
            taken: self.taken(),
            asked,
        };
        self.write_once(plan_id.as_str(), &validated).await?;
        Ok(told(&validated.asked, validated.taken.seconds))
    }

    /// Whoever put production back wants to know, so nothing is asked of the approval here.
    pub(super) async fn smoke(&self, plan_id: &PlanId) -> Result<Told, BranchesError> {
        let plan = self.plan_of(plan_id).await?;
        self.needed::<Promoted>(plan_id, "production was not put back")
            .await?;
        let validated: Validated = self.needed(plan_id, "its branch was not checked").await?;
        if let Some(smoked) = self.read::<Smoked>(plan_id.as_str()).await? {
            return Ok(told(&smoked.asked, smoked.taken.seconds));
        }
        let opened = self.open(&plan.request.database).await?;
        let seen = see(&opened).await?;
        let (role, database) = (&opened.policy.role, &opened.policy.database);
        let uri = opened
            .project
            .production_uri(&seen.production, role, database);
        let uri = match uri.await? {
            Some(uri) => uri,
            None => self.copy_uri(&opened, &plan, &seen.production.id).await?,
        };
        let asked = self.ask(&opened, &plan, &uri).await?;
        let faults = faults(&asked, Some(&validated.asked.tables));
        if !faults.is_empty() {
            return Err(RecoveryError::NotWell(faults).into());
        }
        let proof = match plan.freeze_function {
            Some(_) => Some(self.prove(&opened, &plan, &uri).await?),
            // Whoever writes may have written since.
            None => None,
        };
        let smoked = Smoked {
            taken: self.taken(),
            asked,
            proof,
        };
        self.write_once(plan_id.as_str(), &smoked).await?;
        Ok(told(&smoked.asked, smoked.taken.seconds))
    }

    /// A branch of production as it is now stands for it where the project keeps no passwords:
    /// none of production's own is ever changed.
    async fn copy_uri(
        &self,
        opened: &Opened,
        plan: &Plan,
        production: &str,
    ) -> Result<ConnectionUri, BranchesError> {
        let new = NewBranch {
            parent_id: production.to_owned(),
            point: Point::Head,
            mark: new_copy(plan),
            compute: Some(opened.policy.dump_compute),
            expires_at: Some(whole_second(self.invocation.now()) + EXPIRES_AFTER),
        };
        let copy = opened.project.ensure(&new).await?;
        let (role, database) = (&opened.policy.role, &opened.policy.database);
        Ok(opened
            .project
            .connection_uri(&copy.own, role, database)
            .await?)
    }

    /// That Neon says so is no proof: while writes are stopped, production holds what the branch
    /// holds that was checked. Small tables first, as far as the time goes.
    async fn prove(
        &self,
        opened: &Opened,
        plan: &Plan,
        production: &ConnectionUri,
    ) -> Result<Proof, BranchesError> {
        let then = branch_uri(opened, plan).await?;
        let then = then.parse().map_err(RecoveryError::Uri)?;
        let production = production.parse().map_err(RecoveryError::Uri)?;
        let until = self.within(PROOF_MAX);
        let found = aside(move || compare(&then, &production, until)).await?;
        let differing = found.tables.iter().filter(|it| it.differs());
        let differing: Vec<String> = differing
            .map(|it| {
                format!(
                    "{}.{} does not hold what the checked branch holds; who has written to it in spite of the freeze hook?",
                    it.schema, it.name
                )
            })
            .collect();
        if !differing.is_empty() {
            return Err(RecoveryError::NotWell(differing).into());
        }
        let equal = found.tables.iter().filter(|it| it.is_equal()).count();
        Ok(Proof {
            equal,
            not_compared: found.tables.len() - equal,
        })
    }

    async fn ask(
        &self,
        opened: &Opened,
        plan: &Plan,
        uri: &ConnectionUri,
    ) -> Result<Asked, RecoveryError> {
        let url = uri.parse().map_err(RecoveryError::Uri)?;
        let (drill, until) = (opened.drill.clone(), self.until());
        let at = match &plan.request.point {
            RestorePoint::Time(at) => *at,
            RestorePoint::Lsn(_) | RestorePoint::Branch(_) => plan.planned_at,
        };
        let asked = aside(move || {
            let asked = ask(&url, drill.as_ref(), at, until);
            asked.map_err(|source| RecoveryError::Database {
                doing: "ask whether its tables and rows are as they should be",
                source,
            })
        });
        asked.await
    }
}

fn told(asked: &Asked, seconds: f64) -> Told {
    Told {
        tables: asked.tables.len(),
        checks: asked.checks.len(),
        seconds,
    }
}

/// Of the branch of the point.
pub(super) async fn branch_uri(
    opened: &Opened,
    plan: &Plan,
) -> Result<ConnectionUri, BranchesError> {
    let mark = candidate(plan);
    let found = opened.project.find(&mark).await?;
    let own = found.as_ref().and_then(Own::of);
    let own = own.filter(|it| it.mark().is_same(&mark));
    let own = own.ok_or_else(|| RecoveryError::TooEarly {
        plan_id: plan.plan_id.clone(),
        missing: "the branch of that moment is not there (any more)",
    })?;
    let (role, database) = (&opened.policy.role, &opened.policy.database);
    let uri = opened.project.connection_uri(&own, role, database).await?;
    Ok(uri)
}

/// Blocks.
fn ask(
    url: &DatabaseUrl,
    drill: Option<&DrillPolicy>,
    at: Timestamp,
    until: Instant,
) -> Result<Asked, PgError> {
    let mut session = Session::new(url, until, Some("''"));
    let tables = match session.ask(TABLES) {
        Ok(rows) => rows.into_iter().map(|row| {
            let [name] = texts(row);
            name
        }),
        Err(Unanswered::Refused(error)) => return Err(PgError::Server(error)),
        Err(Unanswered::Lost(error)) => return Err(error),
        // It says nothing of its tables: asked again later, it may.
        Err(Unanswered::Here(_)) => return Err(PgError::Stalled(std::time::Duration::ZERO)),
    };
    let tables = tables.collect();
    drop(session);
    let mut checks: Vec<CheckResult> = Vec::new();
    if let Some(drill) = drill {
        let expected = &drill.tables;
        let answers = queries::tables(url, expected, at, until)?;
        checks.extend(
            expected
                .iter()
                .zip(answers)
                .flat_map(|(it, (answer, seconds))| {
                    let found = table::checks(it, &answer).into_iter();
                    found.map(move |it| it.taking(seconds))
                }),
        );
        let expected = &drill.assertions;
        let answers = queries::assertions(url, expected, until)?;
        checks.extend(
            expected
                .iter()
                .zip(answers)
                .map(|(it, (answer, seconds))| assertion::check(it, &answer).taking(seconds)),
        );
    }
    Ok(Asked { tables, checks })
}
