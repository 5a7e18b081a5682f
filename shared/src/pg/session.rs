//! The settings that shape the text of rows. Every session that reads or writes rows, on
//! source and target, pins them, or fingerprints mean nothing.

/// None of these may end a session of ours; a server without one of them is older than it.
pub const TIMEOUTS_OFF: &str = "SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0";

/// `transaction_timeout` exists from this version on.
const TRANSACTION_TIMEOUT: u32 = 170_000;
/// `restrict_nonsystem_relation_kind` came with these minor releases.
const RESTRICT_RELATION_KIND: [(u32, u32); 3] = [(14, 13), (15, 8), (16, 4)];

/// A session whose client vanished ends within a minute, and lets go of its locks. Where a
/// server is not reached by TCP, it takes them and does nothing.
const GONE_CLIENTS: &str = "SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10; \
     SET tcp_keepalives_count = 3";

/// What both reading and loading pin.
///
/// `encoding` is the archive's: it declares it, and where it is the database's own, no
/// conversion can fail or change a byte. `SET` rather than `set_config()`, which would fix a
/// snapshot.
fn pin(server_version: u32, encoding: &str) -> String {
    let mut sql = format!(
        "SET client_encoding = '{encoding}'; \
         SET search_path = ''; \
         SET TimeZone = 'UTC'; \
         SET DateStyle = 'ISO'; \
         SET IntervalStyle = 'postgres'; \
         SET extra_float_digits = 3; \
         SET bytea_output = 'hex'; \
         SET quote_all_identifiers = off; \
         SET row_security = off; \
         SET jit = off; \
         {TIMEOUTS_OFF}; \
         {GONE_CLIENTS}"
    );
    if server_version >= TRANSACTION_TIMEOUT {
        sql.push_str("; SET transaction_timeout = 0");
    }
    sql
}

/// The statements to run on a fresh session that loads an archive, before any transaction.
///
/// No reading setting that a view or a function of the archive may need is touched: a
/// materialized view is refreshed in such a session, too.
pub fn pin_loading(server_version: u32, encoding: &str) -> String {
    let mut sql = pin(server_version, encoding);
    sql.push_str(
        "; SET xmloption = content; \
         SET array_nulls = on; \
         SET check_function_bodies = off; \
         SET standard_conforming_strings = on; \
         SET default_tablespace = ''; \
         SET default_transaction_read_only = off; \
         SET client_min_messages = error; \
         SET synchronous_commit = off",
    );
    sql
}

/// The statements to run on a fresh session that reads rows, before any transaction.
pub fn pin_reading(server_version: u32, encoding: &str) -> String {
    let mut sql = pin(server_version, encoding);
    sql.push_str(
        "; SET synchronize_seqscans = off; \
         SET enable_tidscan = on; \
         SET max_parallel_workers_per_gather = 0",
    );
    let (major, minor) = (server_version / 10_000, server_version % 10_000);
    let restricts = major >= 17
        || RESTRICT_RELATION_KIND
            .iter()
            .any(|it| it.0 == major && minor >= it.1);
    if restricts {
        // A view or foreign table swapped in for a table must not run code as us.
        sql.push_str("; SET restrict_nonsystem_relation_kind = 'view, foreign-table'");
    }
    sql
}
