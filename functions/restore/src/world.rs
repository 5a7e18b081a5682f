//! Gathers everything that a plan is made from. Changes nothing.

use std::sync::Arc;

use jiff::Timestamp;
use shared::backup::{BackupId, DatabaseName};
use shared::config::read_policy;
use shared::history::{self, VerifiedBackup};
use shared::manifest::QualifiedName;
use shared::policy::{DatabasePolicy, Policy, TargetPolicy};
use shared::restore::estimate::{ASSUMED, predict};
use shared::restore::guard::{self, TargetFacts, Wish};
use shared::restore::{Backup, Destination, LeaveOut, Order, Scope, table_name};

use crate::error::RestoreFailed;
use crate::plan::World;
use crate::request::{PlanRequest, Point};
use crate::{Function, Invocation};

/// A job has to fit beside what an invocation does before and after it.
const SHARE_OF_AN_INVOCATION: f64 = 0.8;

/// What was asked, resolved: which backup, and its manifest.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) id: BackupId,
    pub(crate) verified: bool,
    /// Of the manifest that the verdict is about.
    manifest_sha256: Option<String>,
}

impl Function {
    /// Everything as it is now.
    pub(crate) async fn gather(
        &self,
        invocation: &Invocation,
        request: &PlanRequest,
    ) -> Result<(World, Backup), RestoreFailed> {
        let policy = read_policy(&self.config.layer_root)?;
        let database = known_database(&policy, &request.database)?;
        let target = known_target(&policy, &request.target)?;
        let chosen = self.choose(request).await?;
        let backup = self
            .open(&request.database, chosen.id, &request.scope)
            .await?;
        let judged = chosen.manifest_sha256.as_ref();
        if judged.is_some_and(|it| *it != backup.manifest_sha256) {
            return Err(RestoreFailed::AnotherManifest {
                database: request.database.clone(),
                id: chosen.id,
            });
        }
        let url = self.secrets.target_url(&target.name).await?;
        let order = self.order(request, database);
        let rates = history::rates(&self.vault, &request.database).await;
        let is_rate_measured = rates.is_some();
        let estimate = predict(&backup, &order, rates.unwrap_or(ASSUMED));
        let mut facts = guard::gather(&backup.manifest, &url, &request.target).await?;
        let source = guard::source_facts(&backup.manifest).await;
        let roles = guard::roles(&backup, &order);
        let forced = guard::forced_row_security(&backup, &order);
        let superuser_only = guard::superuser_only(&backup, &order);
        let wish = Wish {
            manifest: &backup.manifest,
            order: &order,
            destination: &request.target,
            live: target.live,
            roles: &roles,
            forced_row_security: &forced,
            superuser_only: &superuser_only,
            estimate: &estimate,
            job_seconds_max: invocation.job_seconds_max(SHARE_OF_AN_INVOCATION),
        };
        let obstacles = guard::judge(&facts, &source, &wish);
        // What else the server has may come and go.
        let extensions = &backup.manifest.extensions;
        let is_wanted = |name: &str| extensions.iter().any(|it| it.name == name);
        facts.extensions.retain(|name, _| is_wanted(name));
        facts.roles.retain(|it| roles.contains(it));
        let mut notes = notes(&backup, &order);
        notes.extend(not_comparable(&facts, &order));
        let world = World {
            request: request.clone(),
            backup_id: chosen.id,
            snapshot_at: backup.manifest.snapshot_at,
            verified: chosen.verified,
            manifest_sha256: backup.manifest_sha256.clone(),
            target: facts,
            is_live: target.live,
            notes,
            order,
            estimate,
            is_rate_measured,
            obstacles,
        };
        Ok((world, backup))
    }

    /// Reads no more of it than the scope needs.
    pub(crate) async fn open(
        &self,
        database: &DatabaseName,
        id: BackupId,
        scope: &Scope,
    ) -> Result<Backup, RestoreFailed> {
        let identities = Arc::from(self.secrets.identities().await?);
        let backup = match scope {
            Scope::Tables(_) => {
                Backup::open_for_tables(&self.vault, identities, database, id).await
            }
            Scope::Everything | Scope::SchemaOnly | Scope::DataOnly => {
                Backup::open(&self.vault, identities, database, id).await
            }
        };
        Ok(backup?)
    }

    async fn choose(&self, request: &PlanRequest) -> Result<Chosen, RestoreFailed> {
        let (vault, database) = (&self.vault, &request.database);
        let verified = |it: VerifiedBackup| Chosen {
            id: it.id,
            verified: true,
            manifest_sha256: it.manifest_sha256,
        };
        match request.point {
            Point::Latest => {
                let ids = history::backups(vault, database).await?;
                let newest = history::newest_verified(vault, database, ids).await?;
                newest
                    .map(verified)
                    .ok_or_else(|| RestoreFailed::NothingVerified {
                        database: database.clone(),
                        before: None,
                    })
            }
            Point::Time(before) => self.verified_before(database, before).await.map(verified),
            Point::BackupId(id) => {
                let found = history::verified(vault, database, id).await?;
                match found {
                    Some(found) => Ok(verified(found)),
                    None if request.unverified => Ok(Chosen {
                        id,
                        verified: false,
                        manifest_sha256: None,
                    }),
                    None => Err(RestoreFailed::NotVerified {
                        database: database.clone(),
                        id,
                    }),
                }
            }
        }
    }

    /// The last verified backup whose data is from before a moment.
    async fn verified_before(
        &self,
        database: &DatabaseName,
        before: Timestamp,
    ) -> Result<VerifiedBackup, RestoreFailed> {
        // A snapshot is never older than the time its backup was scheduled for.
        let ids = history::backups(&self.vault, database).await?;
        let mut ids: Vec<BackupId> = ids
            .into_iter()
            .filter(|id| id.scheduled_at() < before)
            .collect();
        loop {
            let found =
                history::newest_verified(&self.vault, database, ids.iter().copied()).await?;
            match found {
                Some(found) if found.snapshot_at < before => return Ok(found),
                // It was taken late: its data is from after the moment.
                Some(found) => ids.retain(|id| *id < found.id),
                None => {
                    return Err(RestoreFailed::NothingVerified {
                        database: database.clone(),
                        before: Some(before),
                    });
                }
            }
        }
    }

    fn order(&self, request: &PlanRequest, database: &DatabasePolicy) -> Order {
        let staging_schema = match &request.target {
            Destination::Staging { schema, .. } => Some(schema.clone()),
            Destination::NewDatabase { .. } | Destination::ExistingTables { .. } => None,
        };
        Order {
            plan_id: String::new(),
            scope: request.scope.clone(),
            leave_out: LeaveOut::from(&database.restore),
            owners: request.owners,
            privileges: request.privileges,
            connections: database.connections.unwrap_or(self.config.connections),
            staging_schema,
        }
    }
}

pub(crate) fn known_database<'a>(
    policy: &'a Policy,
    name: &DatabaseName,
) -> Result<&'a DatabasePolicy, RestoreFailed> {
    policy
        .database(name)
        .ok_or_else(|| RestoreFailed::UnknownDatabase {
            name: name.clone(),
            known: policy.databases.iter().map(|it| it.name.clone()).collect(),
        })
}

fn known_target<'a>(
    policy: &'a Policy,
    destination: &Destination,
) -> Result<&'a TargetPolicy, RestoreFailed> {
    policy
        .target(destination.target())
        .ok_or_else(|| RestoreFailed::UnknownTarget {
            name: destination.target().clone(),
            known: policy.targets.iter().map(|it| it.name.clone()).collect(),
        })
}

/// Tables that arrive beside live ones which the role may not read.
fn not_comparable(facts: &TargetFacts, order: &Order) -> Vec<String> {
    let Scope::Tables(tables) = &order.scope else {
        return Vec::new();
    };
    let is_hidden = |it: &&QualifiedName| {
        let key = (it.schema.clone(), it.name.clone());
        facts.unreadable.contains(&key)
    };
    let hidden = tables.iter().filter(is_hidden).map(|it| {
        format!(
            "{} will be staged, but not compared with the live table, which the role {} may not read whole: GRANT SELECT, and BYPASSRLS where row-level security is on",
            table_name(it),
            facts.role
        )
    });
    hidden.collect()
}

/// What a person should know before deciding.
fn notes(backup: &Backup, order: &Order) -> Vec<String> {
    let manifest = &backup.manifest;
    let left_out = manifest.left_out.iter();
    let mut notes: Vec<String> = left_out
        .map(|it| format!("not in the backup: {it}"))
        .collect();
    for (what, names) in [
        ("extensions", &order.leave_out.extensions),
        ("schemas", &order.leave_out.schemas),
        ("publications", &order.leave_out.publications),
    ] {
        if !names.is_empty() {
            notes.push(format!(
                "left out, as lifeboat.toml says: {what} {}",
                names.join(", ")
            ));
        }
    }
    if !order.owners {
        notes.push(
            "everything will belong to the role that restores (\"owners\": true keeps the owners)"
                .to_owned(),
        );
    }
    if !order.privileges {
        notes.push(
            "no rights are granted (\"privileges\": true grants what is granted at the source)"
                .to_owned(),
        );
    }
    notes.extend(
        manifest
            .migration_head
            .iter()
            .map(|it| format!("its newest migration ({}) is {}", it.tool, it.head)),
    );
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::world;

    #[test]
    fn a_live_table_that_may_not_be_read_is_noted_before_it_is_staged() {
        let mut world = world();
        let table = |name: &str| QualifiedName {
            schema: "app".to_owned(),
            name: name.to_owned(),
        };
        world.order.scope = Scope::Tables(vec![table("users"), table("orders")]);
        for hidden in ["users", "others"] {
            let key = ("app".to_owned(), hidden.to_owned());
            world.target.unreadable.insert(key);
        }
        let notes = not_comparable(&world.target, &world.order);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].starts_with("app.users will be staged, but not compared"),
            "{notes:?}"
        );
    }
}
