//! Roles and memberships, without passwords: `pg_dump` leaves them out, and a restore of
//! owners and grants needs them.

use shared::pg::Connection;

use crate::catalog::Values;
use crate::error::DumpError;

/// One SQL statement a line, in an order that runs: roles, settings, memberships. A role that is
/// there already is no error: whoever restores at night should see none that means nothing.
const STATEMENTS: &str = "
    SELECT line FROM (
        SELECT 1 AS part, r.rolname AS name,
               format('DO %L;', format('BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %L) '
                   'THEN CREATE ROLE %I WITH %s%s%s%s%s%s%s CONNECTION LIMIT %s%s; END IF; END',
                   r.rolname, r.rolname,
                   CASE WHEN r.rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END,
                   CASE WHEN r.rolinherit THEN ' INHERIT' ELSE ' NOINHERIT' END,
                   CASE WHEN r.rolcreaterole THEN ' CREATEROLE' ELSE ' NOCREATEROLE' END,
                   CASE WHEN r.rolcreatedb THEN ' CREATEDB' ELSE ' NOCREATEDB' END,
                   CASE WHEN r.rolcanlogin THEN ' LOGIN' ELSE ' NOLOGIN' END,
                   CASE WHEN r.rolreplication THEN ' REPLICATION' ELSE ' NOREPLICATION' END,
                   CASE WHEN r.rolbypassrls THEN ' BYPASSRLS' ELSE ' NOBYPASSRLS' END,
                   r.rolconnlimit,
                   ' VALID UNTIL ' || quote_literal(r.rolvaliduntil))) AS line
        FROM pg_roles r WHERE r.rolname !~ '^pg_'
        UNION ALL
        SELECT 2, r.rolname,
               format('ALTER ROLE %I%s SET %I = %s;', r.rolname,
                   CASE WHEN s.setdatabase <> 0 THEN format(' IN DATABASE %I', d.datname) END,
                   c.setting,
                   -- The value of a list is stored as a list of quoted names already.
                   CASE WHEN c.setting ~ '^(search_path|temp_tablespaces|(local|session|shared)_preload_libraries)$'
                        THEN coalesce(nullif(c.value, '\"\"'), '''''')
                        ELSE quote_literal(c.value) END)
        FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
        LEFT JOIN pg_database d ON d.oid = s.setdatabase,
             LATERAL (SELECT split_part(one, '=', 1) AS setting, substr(one, strpos(one, '=') + 1) AS value
                      FROM unnest(s.setconfig) AS one) AS c
        WHERE s.setdatabase = 0 OR d.datname = current_database()
        UNION ALL
        SELECT 3, r.rolname,
               format('GRANT %I TO %I%s;', r.rolname, m.rolname,
                   -- Two of the options exist from 16 on.
                   CASE WHEN o.option ? 'set_option'
                        THEN format(' WITH ADMIN %s, INHERIT %s, SET %s', o.option ->> 'admin_option',
                                    o.option ->> 'inherit_option', o.option ->> 'set_option')
                        WHEN a.admin_option THEN ' WITH ADMIN OPTION' END)
        FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid
        JOIN pg_roles m ON m.oid = a.member, LATERAL to_jsonb(a) AS o (option) WHERE m.rolname !~ '^pg_'
    ) AS statements ORDER BY part, name, line";

/// The statements, or what kept them from being read.
pub fn capture(connection: &mut Connection) -> Result<Result<Vec<u8>, String>, DumpError> {
    match connection.query(STATEMENTS) {
        Ok(rows) => {
            let mut sql =
                b"-- Roles and memberships at the time of the backup, without passwords.\n"
                    .to_vec();
            for row in rows {
                sql.extend(Values::of(row).bytes());
                sql.push(b'\n');
            }
            Ok(Ok(sql))
        }
        Err(shared::pg::PgError::Server(error)) => Ok(Err(error.to_string())),
        Err(source) => Err(DumpError::Query {
            doing: "its roles",
            source,
        }),
    }
}
