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
use super::steps::{Asked, Prepared, Promoted, Proof, Smoked, Validated};
use super::{Context, aside, candidate, new_copy, see};
use crate::Opened;
use crate::create::whole_second;
use crate::dump_source::EXPIRES_AFTER;
use crate::error::BranchesError;
use crate::request::RestorePoint;

/// Writes are stopped for it.
const PROOF_MAX: Duration = Duration::from_secs(60);
const PROOF_MIN: Duration = Duration::from_secs(20);

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
        let smoked = self.smoked(&opened, &plan, &validated).await;
        // One that was made is of this moment: another try makes its own.
        if let Err(error) = opened.project.remove(&new_copy(&plan)).await {
            tracing::warn!(%error, "a branch of production may be left");
        }
        let smoked = smoked?;
        self.write_once(plan_id.as_str(), &smoked).await?;
        Ok(told(&smoked.asked, smoked.taken.seconds))
    }

    async fn smoked(
        &self,
        opened: &Opened,
        plan: &Plan,
        validated: &Validated,
    ) -> Result<Smoked, BranchesError> {
        let (asked, uri, of_branch) = self.ask_production(opened, plan).await?;
        let faults = faults(&asked, Some(&validated.asked.tables));
        if !faults.is_empty() {
            return Err(RecoveryError::NotWell(faults).into());
        }
        let proof = match plan.freeze_function {
            Some(_) => Some(self.prove(opened, plan, &uri, asked.tables.len()).await?),
            // Whoever writes may have written since.
            None => None,
        };
        Ok(Smoked {
            taken: self.taken(),
            asked,
            of_branch,
            proof,
        })
    }

    /// And where it was asked, and whether that was a branch of it.
    async fn ask_production(
        &self,
        opened: &Opened,
        plan: &Plan,
    ) -> Result<(Asked, ConnectionUri, bool), BranchesError> {
        let seen = see(opened).await?;
        let (role, database) = (&opened.policy.role, &opened.policy.database);
        let uri = opened
            .project
            .production_uri(&seen.production, role, database);
        if let Some(uri) = uri.await? {
            match self.ask(opened, plan, &uri).await {
                // Not for a moment, but for good, as where it takes certain addresses only.
                Err(BranchesError::Recovery(RecoveryError::Database { source, .. }))
                    if !source.is_transient() =>
                {
                    tracing::warn!(error = %source, "production lets nobody of ours in");
                }
                asked => return Ok((asked?, uri, false)),
            }
        }
        let uri = self.copy_uri(opened, plan, &seen.production.id).await?;
        Ok((self.ask(opened, plan, &uri).await?, uri, true))
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
        tables: usize,
    ) -> Result<Proof, BranchesError> {
        let not_compared = Proof {
            equal: 0,
            not_compared: tables,
        };
        let until = self.within(PROOF_MAX);
        if until.saturating_duration_since(Instant::now()) < PROOF_MIN {
            return Ok(not_compared);
        }
        let then = branch_uri(opened, plan).await?;
        let then = then.parse().map_err(RecoveryError::Uri)?;
        let production = production.parse().map_err(RecoveryError::Uri)?;
        let found = match aside(move || compare(&then, &production, until)).await {
            Ok(found) => found,
            // What the checks have shown stands, and writes wait for this.
            Err(error) => {
                tracing::warn!(%error, "production was not compared");
                return Ok(not_compared);
            }
        };
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
    ) -> Result<Asked, BranchesError> {
        let url = uri.parse().map_err(RecoveryError::Uri)?;
        let drill = opened.drill.clone().filter(|_| !plan.request.skip_checks);
        let until = self.until();
        let at = match &plan.request.point {
            RestorePoint::Time(at) => *at,
            RestorePoint::Lsn(_) | RestorePoint::Branch(_) => {
                let prepared = self.read::<Prepared>(&plan.plan_id).await?;
                let at = prepared.and_then(|it| it.parent_at);
                at.unwrap_or(plan.planned_at)
            }
        };
        let asked = aside(move || {
            let asked = ask(&url, drill.as_ref(), at, until);
            asked.map_err(|source| RecoveryError::Database {
                doing: "ask whether its tables and rows are as they should be",
                source,
            })
        });
        Ok(asked.await?)
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
