//! What is asked of the database: facts for the preflight, and what its tables are.

use std::collections::HashMap;

use jiff::Timestamp;
use shared::manifest::{Column, Generated, Identity};
use shared::pg::{Connection, PgError, Row};

use crate::error::DumpError;
use crate::preflight::Facts;

/// Tables whose rows belong to the database and not to the system or an extension, except the
/// configuration tables that an extension declares as user data: what pg_dump will lock.
const USER_TABLES: &str = "
    SELECT c.oid, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname) AS quoted,
           c.relkind, n.oid AS nspoid
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND (NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                       AND d.objid = c.oid AND d.deptype = 'e')
           OR EXISTS (SELECT FROM pg_extension e WHERE c.oid = ANY (e.extconfig)))";

/// A table as the snapshot has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub is_heap: bool,
    pub unlogged: bool,
    /// Of the main fork, measured after the snapshot.
    pub blocks: u64,
    /// Heap and TOAST on disk.
    pub bytes: u64,
    /// Only rows of this condition belong to the archive.
    pub condition: Option<String>,
    /// Rewritten, truncated or dropped since the snapshot.
    pub is_rewritten: bool,
}

/// What the session and the snapshot say of themselves.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub id: String,
    pub at: Timestamp,
    pub lsn: String,
}

/// The name and version of the server, before anything is pinned.
#[derive(Clone, Debug)]
pub struct Server {
    pub version: String,
    pub version_num: u32,
    pub encoding: String,
}

pub fn asking(doing: &'static str) -> impl Fn(PgError) -> DumpError {
    move |source| DumpError::Query { doing, source }
}

pub fn server(connection: &mut Connection) -> Result<Server, DumpError> {
    let rows = connection
        .query(
            "SELECT current_setting('server_version_num'), current_setting('server_version'),
                    pg_catalog.pg_encoding_to_char(encoding)
             FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
        )
        .map_err(asking("its version"))?;
    let mut row = Values::first(rows);
    let version_num = row.number();
    // Distributions append their own name.
    let version = row.text().split(' ').next().unwrap_or_default().to_owned();
    let encoding = row.text();
    Ok(Server {
        version,
        version_num: u32::try_from(version_num).unwrap_or_default(),
        encoding,
    })
}

/// Everything [`crate::preflight::decide`] needs.
pub fn facts(connection: &mut Connection, server: &Server) -> Result<Facts, DumpError> {
    let rows = connection
        .query(
            "SELECT current_user, current_setting('max_locks_per_transaction'),
                    current_setting('max_connections')::int
                    + current_setting('max_prepared_transactions')::int
                    + current_setting('autovacuum_max_workers')::int + 1
                    + current_setting('max_worker_processes')::int
                    + current_setting('max_wal_senders')::int,
                    (SELECT count(*) FROM pg_locks)",
        )
        .map_err(asking("its limits"))?;
    let mut row = Values::first(rows);
    let mut facts = Facts {
        server_version: server.version_num,
        role: row.text(),
        max_locks_per_transaction: row.number(),
        backends_max: row.number(),
        locks_held: row.number(),
        ..Facts::default()
    };
    let sql = format!(
        "SELECT quoted, relkind,
                CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'SELECT')
                     ELSE has_table_privilege(oid, 'SELECT') END
                AND has_schema_privilege(nspoid, 'USAGE'),
                relkind <> 'S' AND row_security_active(oid)
         FROM ({USER_TABLES} AND c.relkind IN ('r', 'p', 'S')) AS t ORDER BY quoted"
    );
    for row in connection
        .query(sql)
        .map_err(asking("which tables it may read"))?
    {
        let mut row = Values::of(row);
        let (name, kind) = (row.text(), row.text());
        let (readable, hidden) = (row.flag(), row.flag());
        let is_sequence = kind == "S";
        facts.tables += u64::from(!is_sequence);
        if !readable && is_sequence {
            facts.unreadable_sequences.push(name);
        } else if !readable {
            facts.unreadable_tables.push(name);
        } else if hidden {
            facts.row_security.push(name);
        }
    }
    facts.unreadable_large_objects = unreadable_large_objects(connection)?;
    Ok(facts)
}

/// Owner's and granted rights; `pg_read_all_data` does not cover large objects before 19.
fn unreadable_large_objects(connection: &mut Connection) -> Result<Vec<String>, DumpError> {
    let rows = connection
        .query(
            "SELECT l.oid FROM pg_largeobject_metadata l
             WHERE NOT current_setting('lo_compat_privileges')::bool
               AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
               AND NOT pg_has_role(l.lomowner, 'USAGE')
               AND NOT EXISTS (SELECT FROM aclexplode(l.lomacl) a
                   WHERE a.privilege_type = 'SELECT'
                     AND CASE WHEN a.grantee = 0 THEN true
                              ELSE pg_has_role(a.grantee, 'USAGE') END)
             ORDER BY l.oid",
        )
        .map_err(asking("which large objects it may read"))?;
    Ok(rows.into_iter().map(|row| Values::of(row).text()).collect())
}

/// The quoted names of every table that will be locked, with its oid.
pub fn tables_to_lock(connection: &mut Connection) -> Result<Vec<(u32, Vec<u8>)>, DumpError> {
    let sql = format!("SELECT oid, quoted FROM ({USER_TABLES} AND c.relkind IN ('r', 'p')) AS t");
    let rows = connection.query(sql).map_err(asking("its tables"))?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let mut row = Values::of(row);
            (row.oid(), row.bytes())
        })
        .collect())
}

pub fn export_snapshot(connection: &mut Connection) -> Result<Snapshot, DumpError> {
    let rows = connection
        .query(
            "SELECT pg_export_snapshot(),
                    trunc(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
                    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                         ELSE pg_current_wal_lsn() END",
        )
        .map_err(asking("for a snapshot"))?;
    let mut row = Values::first(rows);
    let id = row.text();
    let millis = i64::try_from(row.number()).unwrap_or_default();
    Ok(Snapshot {
        id,
        at: Timestamp::from_millisecond(millis).unwrap_or_default(),
        lsn: row.text(),
    })
}

/// The tables of these oids, and whether each still is what the snapshot shows: a table
/// rewritten or truncated since has another file than the snapshot's catalog says.
pub fn relations(
    connection: &mut Connection,
    oids: &[u32],
) -> Result<HashMap<u32, Relation>, DumpError> {
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, coalesce(a.amname = 'heap', false),
                c.relpersistence = 'u',
                coalesce(pg_relation_size(c.oid), 0)
                    / current_setting('block_size')::bigint,
                coalesce(pg_table_size(c.oid), 0),
                coalesce(c.relfilenode <> pg_relation_filenode(c.oid), true),
                (SELECT e.extcondition[array_position(e.extconfig, c.oid)] FROM pg_extension e
                 WHERE c.oid = ANY (e.extconfig) LIMIT 1)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_am a ON a.oid = c.relam
         WHERE c.oid = ANY ({})",
        oid_array(oids)
    );
    let rows = connection
        .query(sql)
        .map_err(asking("what its tables are"))?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let mut row = Values::of(row);
            let relation = Relation {
                oid: row.oid(),
                schema: row.text(),
                name: row.text(),
                is_heap: row.flag(),
                unlogged: row.flag(),
                blocks: row.number(),
                bytes: row.number(),
                is_rewritten: row.flag(),
                condition: row.optional().filter(|it| !it.is_empty()),
            };
            (relation.oid, relation)
        })
        .collect())
}

pub fn columns(
    connection: &mut Connection,
    oids: &[u32],
) -> Result<HashMap<u32, Vec<Column>>, DumpError> {
    let sql = format!(
        "SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                a.attgenerated, a.attidentity,
                CASE WHEN a.attcollation <> t.typcollation
                     THEN format('%I.%I', n.nspname, l.collname) END
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_collation l ON l.oid = a.attcollation
         LEFT JOIN pg_namespace n ON n.oid = l.collnamespace
         WHERE a.attrelid = ANY ({}) AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attrelid, a.attnum",
        oid_array(oids)
    );
    let mut columns: HashMap<u32, Vec<Column>> = HashMap::new();
    for row in connection
        .query(sql)
        .map_err(asking("what its columns are"))?
    {
        let mut row = Values::of(row);
        let table = columns.entry(row.oid()).or_default();
        table.push(Column {
            name: row.text(),
            data_type: row.text(),
            not_null: row.flag(),
            generated: match row.text().as_str() {
                "s" => Some(Generated::Stored),
                "v" => Some(Generated::Virtual),
                _ => None,
            },
            identity: match row.text().as_str() {
                "a" => Some(Identity::Always),
                "d" => Some(Identity::ByDefault),
                _ => None,
            },
            collation: row.optional(),
        });
    }
    Ok(columns)
}

pub fn primary_keys(
    connection: &mut Connection,
    oids: &[u32],
) -> Result<HashMap<u32, Vec<String>>, DumpError> {
    let sql = format!(
        "SELECT k.conrelid, a.attname
         FROM pg_constraint k, unnest(k.conkey) WITH ORDINALITY AS u(attnum, place),
              pg_attribute a
         WHERE k.contype = 'p' AND k.conrelid = ANY ({})
           AND a.attrelid = k.conrelid AND a.attnum = u.attnum
         ORDER BY k.conrelid, u.place",
        oid_array(oids)
    );
    let mut keys: HashMap<u32, Vec<String>> = HashMap::new();
    for row in connection
        .query(sql)
        .map_err(asking("what its primary keys are"))?
    {
        let mut row = Values::of(row);
        keys.entry(row.oid()).or_default().push(row.text());
    }
    Ok(keys)
}

/// Bytes that large objects take on disk, for the estimate of what is to be copied.
pub fn large_object_bytes(connection: &mut Connection) -> Result<u64, DumpError> {
    let size = connection.query_value("SELECT pg_table_size('pg_largeobject')");
    let size = size.map_err(asking("how large its large objects are"))?;
    Ok(size.parse().unwrap_or_default())
}

fn oid_array(oids: &[u32]) -> String {
    let oids: Vec<String> = oids.iter().map(u32::to_string).collect();
    format!("'{{{}}}'::oid[]", oids.join(","))
}

/// Takes the values of a row one after the other. What is absent or malformed is empty: the
/// queries above decide the shape.
#[derive(Debug)]
pub struct Values(std::vec::IntoIter<Option<Vec<u8>>>);

impl Values {
    pub fn of(row: Row) -> Self {
        Self(row.into_iter())
    }

    pub fn first(rows: Vec<Row>) -> Self {
        Self::of(rows.into_iter().next().unwrap_or_default())
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        self.0.next().flatten().unwrap_or_default()
    }

    pub fn optional(&mut self) -> Option<String> {
        let value = self.0.next().flatten()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    pub fn text(&mut self) -> String {
        self.optional().unwrap_or_default()
    }

    pub fn number(&mut self) -> u64 {
        self.text().parse().unwrap_or_default()
    }

    fn oid(&mut self) -> u32 {
        self.text().parse().unwrap_or_default()
    }

    fn flag(&mut self) -> bool {
        self.text() == "t"
    }
}
