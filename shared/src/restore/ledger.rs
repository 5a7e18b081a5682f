//! The record of a restore in its own target: which jobs are done. A job commits together
//! with its record, so neither exists without the other.

mod mark;

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::ask::{Fields, literal, query, value};
use super::jobs::Job;
use super::{Backup, Order, RestoreError, Scope, scratch};
use crate::manifest::Table;
use crate::pg::{Connection, PgError, Row};
use crate::sealed::hex;

/// Where the ledger of a whole database is.
pub(super) const SCHEMA: &str = "lifeboat_restore";
/// The key of the jobs; no other constraint is called this.
pub(super) const CLAIMED: &str = "lifeboat_claimed";
/// One row, which a crash of the server takes away.
const ALIVE: &str = "lifeboat_restore.alive";
const UNDER_WAY: &str = "Lifeboat: being restored, do not use";

/// The names of the two tables, quoted.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    schema: String,
    run: String,
    job: String,
    /// The live database itself is left as it is, its comment included.
    is_staging: bool,
}

/// One done job.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) phase: String,
    /// RFC 3339, of the target's clock.
    pub(super) started_at: String,
    pub(super) seconds: f64,
    pub(super) rows: u64,
    pub(super) copy_bytes: u64,
    pub(super) found: Option<String>,
}

/// What a job has done.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    pub(super) rows: u64,
    pub(super) copy_bytes: u64,
    pub(super) stored_bytes: u64,
    /// JSON, of what was found to be in the target.
    pub(super) found: Option<String>,
}

impl Ledger {
    pub(super) fn of(order: &Order) -> Self {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        match &order.staging_schema {
            None => Self {
                schema: SCHEMA.to_owned(),
                run: format!("{SCHEMA}.run"),
                job: format!("{SCHEMA}.job"),
                is_staging: false,
            },
            // A staged table may be called anything, but hardly this.
            Some(schema) => Self {
                schema: quoted(schema),
                run: format!("{}.\"lifeboat run\"", quoted(schema)),
                job: format!("{}.\"lifeboat job\"", quoted(schema)),
                is_staging: true,
            },
        }
    }

    /// Keeps every other restore into this place away for as long as the session lasts. The
    /// invocation before may have ended a moment ago.
    pub(super) fn lock(&self, connection: &mut Connection) -> Result<(), RestoreError> {
        /// "Life", and "boat" where it is the whole database.
        const KEYS: [i32; 2] = [1_281_974_885, 1_651_466_612];
        let [life, whole] = KEYS;
        let digest = Sha256::digest(self.schema.as_bytes());
        let place = if self.is_staging {
            i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
        } else {
            whole
        };
        let sql = format!(
            "SET lock_timeout = '10s'; SELECT pg_advisory_lock({life}, {place}); SET lock_timeout = 0"
        );
        match connection.query(sql) {
            Ok(_) => Ok(()),
            Err(PgError::Server(error)) if error.code == "55P03" => Err(RestoreError::Busy),
            Err(source) => Err(RestoreError::Query {
                doing: "to be the only restore",
                source,
            }),
        }
    }

    /// Claims the job: whoever tries at the same time waits for this transaction to end, and
    /// then finds it done.
    pub(super) fn begin(&self, job: &Job) -> String {
        format!(
            "BEGIN; INSERT INTO {} (id, phase) VALUES ('{}', '{}');\n",
            self.job,
            job.id,
            job.stage.phase()
        )
    }

    pub(super) fn end(&self, job: &Job, numbers: &Numbers) -> String {
        let found = numbers.found.as_deref().map_or("NULL".to_owned(), literal);
        format!(
            "UPDATE {} SET seconds = extract(epoch FROM clock_timestamp() - started_at), \
                rows = {}, copy_bytes = {}, stored_bytes = {}, found = {found} WHERE id = '{}'; COMMIT",
            self.job, numbers.rows, numbers.copy_bytes, numbers.stored_bytes, job.id
        )
    }

    /// Continues the run of this order, or begins it. `true`: it was begun.
    pub(super) fn open(
        &self,
        connection: &mut Connection,
        backup: &Backup,
        order: &Order,
    ) -> Result<bool, RestoreError> {
        if !is_plain(&order.plan_id) {
            return Err(RestoreError::Refused(
                "the plan id has other characters than letters, digits and -_.:".to_owned(),
            ));
        }
        if self.exists(connection)? {
            self.check(connection, backup, order)?;
            return Ok(false);
        }
        self.refuse_what_is_there(connection, order)?;
        let (run, job) = (&self.run, &self.job);
        let id = backup.manifest.backup_id;
        let sql = format!(
            "BEGIN; CREATE SCHEMA {schema};
             CREATE {unlogged} TABLE {run} (plan_id text PRIMARY KEY, backup_id text NOT NULL,
                manifest_sha256 text NOT NULL, wanted text NOT NULL, state text NOT NULL,
                reason text, comment_before text, bytes_read bigint NOT NULL DEFAULT 0);
             {alive}
             CREATE {unlogged} TABLE {job} (id text CONSTRAINT {CLAIMED} PRIMARY KEY, phase text NOT NULL,
                started_at timestamptz NOT NULL DEFAULT clock_timestamp(), seconds float8,
                rows bigint, copy_bytes bigint, stored_bytes bigint, found text);
             INSERT INTO {run} (plan_id, backup_id, manifest_sha256, wanted, state, comment_before)
             VALUES ({plan}, '{id}', '{sha256}', '{wanted}', 'running',
                nullif((SELECT shobj_description(oid, 'pg_database') FROM pg_database
                 WHERE datname = current_database()), {made}));
             COMMIT",
            schema = self.schema,
            // Of a live database nothing is published or written to its log.
            unlogged = if self.is_staging { "UNLOGGED" } else { "" },
            // Emptied by a crash, as every unlogged table is.
            alive = if self.is_staging {
                String::new()
            } else {
                format!("CREATE UNLOGGED TABLE {ALIVE} AS SELECT true AS is_alive;")
            },
            plan = literal(&order.plan_id),
            // Ours, until now.
            made = literal(&scratch::made_by(&order.plan_id)),
            sha256 = backup.manifest_sha256,
            wanted = fingerprint(order),
        );
        query(connection, "to begin its ledger", &sql)?;
        self.comment(connection, literal(UNDER_WAY).as_bytes())?;
        Ok(true)
    }

    pub(super) fn exists(&self, connection: &mut Connection) -> Result<bool, RestoreError> {
        let sql = format!("SELECT to_regclass({}) IS NOT NULL", literal(&self.run));
        Ok(value(connection, "for its ledger", &sql)? == "t")
    }

    fn check(
        &self,
        connection: &mut Connection,
        backup: &Backup,
        order: &Order,
    ) -> Result<(), RestoreError> {
        let sql = format!(
            "SELECT plan_id, manifest_sha256, wanted, state, reason FROM {}",
            self.run
        );
        let mut rows = query(connection, "what is being restored there", &sql)?;
        let Some(row) = rows.pop() else {
            return Err(self.emptied());
        };
        let mut row = Fields::of(Some(row));
        let (plan_id, sha256, wanted) = (row.text(), row.text(), row.text());
        let (state, reason) = (row.text(), row.text());
        if plan_id != order.plan_id {
            return Err(RestoreError::Refused(format!(
                "the target belongs to the restore of plan {plan_id}, not of {}: name another database, or drop this one",
                order.plan_id
            )));
        }
        if sha256 != backup.manifest_sha256 || wanted != fingerprint(order) {
            return Err(RestoreError::Refused(
                "the target was begun from another backup or with another order: drop it, and plan again"
                    .to_owned(),
            ));
        }
        if state == "failed" {
            return Err(RestoreError::Refused(format!(
                "the restore into this target has failed ({reason}): drop it, and plan again"
            )));
        }
        Ok(())
    }

    /// A crash of the server has emptied the unlogged tables: what is recorded of them is no
    /// longer so, and is done anew. Returns which; mostly none. `unlogged`: the archive's, with rows.
    pub(super) fn forget_emptied(
        &self,
        connection: &mut Connection,
        unlogged: &[&Table],
    ) -> Result<Vec<String>, RestoreError> {
        if self.is_staging || unlogged.is_empty() {
            return Ok(Vec::new());
        }
        let is_alive = format!("SELECT count(*) FROM {ALIVE}");
        if value(connection, "whether its server has crashed", &is_alive)? != "0" {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = unlogged
            .iter()
            .map(|it| format!("'{}'", it.dump_id))
            .collect();
        let sql = format!(
            "BEGIN; DELETE FROM {} WHERE split_part(id, ':', 1) IN ('load', 'proof')
                AND split_part(id, ':', 2) IN ({}) RETURNING split_part(id, ':', 2);
             INSERT INTO {ALIVE} VALUES (true); COMMIT",
            self.job,
            ids.join(", ")
        );
        let rows = query(connection, "to load its unlogged tables anew", &sql)?;
        let gone: BTreeSet<String> = rows
            .into_iter()
            .map(|row| Fields::of(Some(row)).text())
            .collect();
        let emptied = unlogged
            .iter()
            .filter(|it| gone.contains(&it.dump_id.to_string()));
        Ok(emptied
            .map(|it| format!("{}.{}", it.schema, it.name))
            .collect())
    }

    /// Staged tables are unlogged, with their ledger: a crash takes both.
    fn emptied(&self) -> RestoreError {
        RestoreError::Refused(format!(
            "the server has crashed since, which emptied the staged tables: drop the schema {}, and plan again",
            self.schema
        ))
    }

    fn refuse_what_is_there(
        &self,
        connection: &mut Connection,
        order: &Order,
    ) -> Result<(), RestoreError> {
        if self.is_staging {
            let sql = format!(
                "SELECT to_regnamespace({}) IS NOT NULL",
                literal(&self.schema)
            );
            if value(connection, "for the staging schema", &sql)? == "t" {
                return Err(RestoreError::Refused(format!(
                    "the schema {} exists already: name another",
                    self.schema
                )));
            }
            return Ok(());
        }
        if order.scope == Scope::DataOnly {
            return Ok(());
        }
        let found = value(connection, "for user tables", USER_RELATIONS)?;
        if found == "0" {
            return Ok(());
        }
        Err(RestoreError::Refused(format!(
            "the target has {found} tables, views or sequences: only an empty database is restored into"
        )))
    }

    pub(super) fn records(&self, connection: &mut Connection) -> Result<Vec<Record>, RestoreError> {
        let sql = format!(
            "SELECT id, phase, to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
                coalesce(seconds, 0), coalesce(rows, 0), coalesce(copy_bytes, 0), found
             FROM {}",
            self.job
        );
        let rows = query(connection, "which jobs are done", &sql)?;
        let record = |row: Row| {
            let mut row = Fields::of(Some(row));
            Record {
                id: row.text(),
                phase: row.text(),
                started_at: row.text(),
                seconds: row.text().parse().unwrap_or_default(),
                rows: row.text().parse().unwrap_or_default(),
                copy_bytes: row.text().parse().unwrap_or_default(),
                found: row.optional(),
            }
        };
        Ok(rows.into_iter().map(record).collect())
    }

    /// Adds what this invocation read, and returns the sum.
    pub(super) fn add_bytes_read(
        &self,
        connection: &mut Connection,
        bytes: u64,
    ) -> Result<u64, RestoreError> {
        let sql = format!(
            "SET synchronous_commit = on; UPDATE {} SET bytes_read = bytes_read + {bytes} RETURNING bytes_read",
            self.run
        );
        let sum = value(connection, "to note what was read", &sql)?;
        Ok(sum.parse().unwrap_or_default())
    }
}

/// Whatever a person would miss: not the system's, not an extension's.
pub(super) const USER_RELATIONS: &str = "SELECT count(*) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')";

/// The order without what may change from call to call.
fn fingerprint(order: &Order) -> String {
    let order = Order {
        connections: 0,
        ..order.clone()
    };
    let json = serde_json::to_vec(&order).unwrap_or_default();
    hex(&Sha256::digest(&json))
}

fn is_plain(id: &str) -> bool {
    let allowed = |it: char| it.is_ascii_alphanumeric() || "-_.:".contains(it);
    !id.is_empty() && id.len() <= 200 && id.chars().all(allowed)
}
